"""A run that names no directory gets a new one, and a resumed one finds its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mgd_ssl.settings.config_file import saved
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.naming import refuse_resumed_path, with_directory
from mgd_ssl.training.run_directory import RunDirectory

FIRST, SECOND, THIRD = (Path(f"runs/resnet18{number}") for number in ("", "-2", "-3"))


def read(*words: str) -> PretrainConfig:
    return parse(PretrainConfig, "pretrain.py", words)


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Begins a run of some options: its directory."""
    monkeypatch.chdir(tmp_path)

    def begun(*words: str) -> Path:
        config = with_directory(read(*words))
        directory = RunDirectory(config.out)
        directory.open(resume=config.resume, overwrite=config.overwrite)
        directory.write_config(saved(replace(config, resume=False)))
        directory.close()
        return config.out

    return begun


def test_every_run_has_a_directory_of_its_own(begin: Callable[..., Path]) -> None:
    assert [begin(), begin(), begin("--seed", "1")] == [FIRST, SECOND, THIRD]
    assert begin("--method", "simreg") == Path("runs/resnet18-simreg")
    assert begin("--overwrite") == FIRST


def test_a_run_is_resumed_where_its_settings_are(begin: Callable[..., Path]) -> None:
    assert begin("--resume") == FIRST  # as a first run
    assert [begin("--seed", "1"), begin("--seed", "2")] == [SECOND, THIRD]
    assert begin("--resume", "--seed", "1", "--print-freq", "3") == SECOND
    assert begin("--resume") == FIRST
    assert begin("--resume", "--seed", "3") == THIRD  # which is refused for its seed


def test_it_is_said_that_no_run_has_the_settings(
    begin: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert [begin(), begin()] == [FIRST, SECOND]
    with caplog.at_level("INFO", logger="mgd_ssl"):
        assert begin("--resume", "--seed", "3") == SECOND
    assert "no run has these settings, of runs/resnet18, runs/resnet18-2; the last" in caplog.text
    assert "the run to go on with" not in caplog.text


@pytest.mark.parametrize("place", ["", "checkpoints/last.pt", "student.safetensors"])
def test_a_path_after_resume_is_refused_with_the_option_that_takes_it(
    begin: Callable[..., Path], place: str
) -> None:
    run = begin()
    (run / "train.log").touch()
    with pytest.raises(
        ValueError, match=r"takes no path.*expected .* --resume --out runs/resnet18"
    ):
        refuse_resumed_path(read("--resume", str(run / place)))
    refuse_resumed_path(read(str(run / place)))
    refuse_resumed_path(read("--resume", str(run / "photos")))


def test_a_run_is_resumed_by_what_its_images_told(begin: Callable[..., Path]) -> None:
    assert begin("photos", "-b", "16") == FIRST  # as it is written once 16 is found
    assert begin("photos", "-b", "32", "--seed", "1") == SECOND
    assert begin("--resume", "photos") == FIRST
    assert begin("--resume", "photos", "--seed", "1") == SECOND


def test_a_directory_that_is_named_stays(begin: Callable[..., Path]) -> None:
    assert begin("--out", "runs/resnet18") == FIRST
    with pytest.raises(ValueError, match=r"runs/resnet18 is not empty.*runs/resnet18-2"):
        begin("--out", "runs/resnet18")
    assert begin("--out", "runs/resnet18", "--resume") == FIRST
