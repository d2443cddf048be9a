"""A run that fails before its first step leaves its place as it was found."""

from contextlib import suppress
from pathlib import Path

import pytest

from mgd_ssl.training.run_directory import RunDirectory


def begin(path: Path) -> RunDirectory:
    """A directory that is taken, with some of what a run writes."""
    directory = RunDirectory(path)
    directory.open(resume=False, overwrite=False)
    directory.write_config({"seed": 0})
    (path / "train.log").write_text("lines\n")
    (path / "matching").mkdir()
    (path / "matching" / "epoch_0001.npz").write_bytes(b"")
    return directory


def test_a_directory_and_its_parents_that_were_made_are_removed(tmp_path: Path) -> None:
    begin(tmp_path / "runs" / "deep" / "mine").abandon()
    assert list(tmp_path.iterdir()) == []


def test_parents_that_hold_something_else_stay(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    directory = begin(tmp_path / "runs" / "mine")
    directory.abandon()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["notes.txt"]


def test_an_empty_directory_that_was_there_stays_and_is_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    begin(tmp_path / "mine").abandon()
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_no_run_writes_is_never_deleted(tmp_path: Path) -> None:
    directory = begin(tmp_path / "mine")
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    directory.abandon()
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "mine"


def test_a_run_that_is_gone_on_with_is_not_abandoned(tmp_path: Path) -> None:
    begin(tmp_path / "mine").close()
    (tmp_path / "mine" / "checkpoints").mkdir()
    (tmp_path / "mine" / "checkpoints" / "last.pt").write_bytes(b"weights")
    again = RunDirectory(tmp_path / "mine")
    with suppress(ValueError):  # no settings of a run: refused, and left alone
        again.open(resume=True, overwrite=False)
    again.abandon()
    assert (tmp_path / "mine" / "checkpoints" / "last.pt").read_bytes() == b"weights"
    assert (tmp_path / "mine" / "train.log").exists()


def test_a_directory_in_use_is_left_to_its_run(tmp_path: Path) -> None:
    first, second = begin(tmp_path / "mine"), RunDirectory(tmp_path / "mine")
    with pytest.raises(ValueError, match="in use by another run"):
        second.open(resume=True, overwrite=False)
    assert (tmp_path / "mine" / "config.yaml").exists()
    first.abandon()
    assert not (tmp_path / "mine").exists()
