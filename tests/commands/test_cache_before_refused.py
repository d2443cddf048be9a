"""What a training command refuses before it makes its teacher cache."""

import re
from pathlib import Path

import pytest
from cache_runs import (
    NO_FIGURES,
    RUN,
    Capture,
    make_apart,
    refused,
    train,
    words,
    write_data,
)
from tiny_runs import listing, stop_at, write_teacher

from mgd_ssl.commands import pretrain
from mgd_ssl.data.packing_size import free_bytes
from mgd_ssl.runs import cache as runs
from mgd_ssl.training import memory_check

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: Patch) -> None:
    monkeypatch.setattr(runs, "PART_IMAGES", 16)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--cache-views", "-1"], "cache_views: got -1, expected 0 or more"),
        (["--teacher-cache", "run/cache"], "lie in each other, expected folders apart"),
        (["--teacher-cache", "run"], "lie in each other.*--teacher-cache"),
        (["--out", "cache/run"], "lie in each other"),
        (["--teacher-cache", "link"], "link, which cannot be written: .*it is a link to nothing"),
        (["--teacher-cache", "file"], "file, which cannot be written: .*it is no folder"),
        (["--teacher-taps", "last=nowhere"], "nowhere"),
        (["--method", "mgd", "--cache-views", "1", "--moco-k", "16"], "got 1 view of each image"),
        (["--best", "labels"], "no kNN accuracy is measured"),
        (["--warmup-epochs", "3"], "warmup_epochs: got 3 of 3 epochs, expected fewer; give a"),
    ],
)
def test_bad_options_are_refused_and_no_run_is_begun(
    data: Path,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: Capture,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("nowhere")
    Path("file").touch()
    status = pretrain.main(words(data, teacher, Path(), *NO_FIGURES, *more))
    assert re.search(said, refused(capsys, status))
    assert not Path("run").exists() and not Path("cache").exists()


def test_a_directory_that_is_taken_is_refused_before_the_work(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(capsys, train(data, teacher, tmp_path))
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_refused_resumption_makes_no_cache(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert train(data, teacher, tmp_path) != 0
    there = listing(tmp_path / "run")
    other = ["--resume", "--teacher-cache", str(tmp_path / "other")]
    said = refused(capsys, train(data, teacher, tmp_path, *other, "--epochs", "4"))
    assert "--epochs: 3 in the checkpoint, 4 now" in said
    assert not (tmp_path / "other").exists()
    found = listing(tmp_path / "run")
    assert {name for name in there if there[name] != found[name]} <= {"train.log"}


def test_a_step_that_does_not_fit_is_refused_before_the_work(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(memory_check, "available", lambda _: 1000)
    assert "expected more" in refused(capsys, train(data, teacher, tmp_path))
    assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


def test_a_disk_that_is_too_small_is_told_in_this_commands_options(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    assert free_bytes(tmp_path) > 100
    monkeypatch.setattr(runs, "free_bytes", lambda _: 100)
    said = refused(capsys, train(data, teacher, tmp_path))
    assert "teacher_cache: " in said
    assert "with --teacher-cache, or store fewer --cache-views" in said


def test_a_cache_of_another_teacher_stays_as_it_is(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture
) -> None:
    make_apart(data, teacher, tmp_path / "cache")
    other = write_teacher(tmp_path / "other.pth.tar", width=0.125)
    there = listing(tmp_path / "cache")
    for views in ("2", "3"):
        said = refused(capsys, train(data, other, tmp_path, "--cache-views", views))
        assert re.search("does not belong to this run|holds another cache: ", said)
        assert listing(tmp_path / "cache") == there


def test_views_without_a_folder_are_refused(data: Path, teacher: Path, capsys: Capture) -> None:
    argv = [str(data), "--teacher", str(teacher), "--cache-views", "2", *RUN]
    said = refused(capsys, pretrain.main(argv))
    assert "--cache-views 2" in said and "--teacher-cache" in said
