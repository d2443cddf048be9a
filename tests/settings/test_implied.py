"""What the command line chooses anew over a run's config.yaml is what it is without the file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.config_file import saved
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig

Capture = pytest.CaptureFixture[str]
OURS = ["photos", "--teacher", "resnet50", "--size", "64"]


def over(config: type[Any], file: Path, *words: str) -> tuple[Any, Any]:
    """Settings of a file's run under other words, and the same without a file."""
    first = parse(config, "p", [*OURS, "--out", "a"])
    file.write_text(yaml.safe_dump(saved(first)))
    of_file = parse(config, "p", ["--config", str(file), "--out", "b", *words])
    return of_file, parse(config, "p", [*OURS, "--out", "b", *words])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--epochs", "3", "--seed", "2"],
        ["--method", "simreg"],
        ["--method", "mgd"],
        ["--method", "compress", "--mgd-weighing", "start"],
        ["--optimizer", "sgd", "--lr", "0.1"],
        ["--size", "96"],
        ["--preset", "small"],
    ],
)
def test_a_choice_over_a_file_is_that_choice(tmp_path: Path, words: list[str]) -> None:
    over_file, plain = over(PretrainConfig, tmp_path / "config.yaml", *words)
    assert saved(over_file) == saved(plain)


def test_a_classifier_goes_by_the_same_rule(tmp_path: Path) -> None:
    over_file, plain = over(ClassifyConfig, tmp_path / "config.yaml", "--optimizer", "adamw")
    assert saved(over_file) == saved(plain)


def test_what_the_user_chose_stays(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    chosen = ["--crop-min", "0.3", "--mgd-strength", "50", "--teacher-size", "80"]
    file.write_text(yaml.safe_dump(saved(parse(PretrainConfig, "p", [*OURS, *chosen]))))
    words = ["--config", str(file), "--method", "mgd", "--size", "32"]
    found = parse(PretrainConfig, "p", words)
    assert (found.method, found.loader.size, found.mgd.mgd_adapter) == ("mgd", 32, "batch")
    assert (found.views.crop_min, found.mgd.mgd_strength) == (0.3, 50)
    assert found.teacher.teacher_size == 80


def test_another_default_of_before_stays(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    content = saved(parse(PretrainConfig, "p", OURS))
    content["mgd"]["mgd_grid"] = 5
    file.write_text(yaml.safe_dump(content))
    assert parse(PretrainConfig, "p", ["--config", str(file), "--seed", "1"]).mgd.mgd_grid == 5
    assert parse(PretrainConfig, "p", ["--config", str(file), "--method", "mgd"]).mgd.mgd_grid == 5
