"""Files that are whole or absent, and the directory of a run."""

import errno
import os
from pathlib import Path

import pytest
import torch

from mgd_ssl.files import WriteError, require_writable, write_text, write_whole
from mgd_ssl.training.checkpoint import (
    RunDirectory,
    load_checkpoint,
    save_checkpoint,
)


def _full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_whole_and_no_temporary_name_stays(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.bin", lambda file: file.write(b"abc"))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.bin"]
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"abc"


def test_the_last_good_checkpoint_stays_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"progress": {"epoch": 1}, "weight": torch.ones(3)})
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(WriteError) as caught:
        save_checkpoint(path, {"progress": {"epoch": 2}, "weight": torch.zeros(3)})
    message = str(caught.value)
    assert str(path) in message and "No space left" in message
    assert "the one before it stays" in message and "Free disk space" in message
    assert load_checkpoint(path)["progress"] == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_first_checkpoint_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(WriteError, match="nothing was left behind"):
        save_checkpoint(tmp_path / "last.pt", {"progress": {}})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_or_a_device_in_a_files_place_is_named_and_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, kind in ((tmp_path, "it is a folder"), (tmp_path / "pipe", "a device or a pipe")):
        with pytest.raises(WriteError) as caught:
            write_whole(place, lambda file: file.write(b"abc"))
        assert kind in str(caught.value) and "Free disk space" not in str(caught.value)
        with pytest.raises(ValueError, match=rf"--out: got .*{kind}.*name one with --out"):
            require_writable(place)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for place in (tmp_path / "file" / "a.json", Path("/proc/a.json")):
        with pytest.raises(ValueError, match=r"cannot be written: .*name one with --head"):
            require_writable(place, "--head")
    require_writable(tmp_path / "new" / "deep" / "a.json")
    require_writable(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_text_is_written_as_utf_8_whatever_it_holds(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "4×4 \udcff\n")
    assert (tmp_path / "a.txt").read_bytes() == "4×4 \\udcff\n".encode()


def test_a_file_of_another_kind_is_no_checkpoint_to_resume(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.ones(1)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"resume: .* is no checkpoint of a run of this project"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_directory_in_use_is_refused_and_free_once_it_is_closed(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    first.open(resume=False, overwrite=False)
    with pytest.raises(ValueError, match="is in use by another run; wait for it"):
        second.open(resume=True, overwrite=False)
    first.close()
    second.open(resume=False, overwrite=False)
    second.close()


def test_overwrite_does_not_clear_a_directory_in_use(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run")
    first.open(resume=False, overwrite=False)
    first.write_config({"seed": 1})
    with pytest.raises(ValueError, match="in use"):
        RunDirectory(tmp_path / "run").open(resume=False, overwrite=True)
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 1\n"
    first.close()


def test_a_directory_that_is_not_empty_needs_a_flag(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ValueError, match=r"is not empty, expected a new directory; .*--resume"):
        RunDirectory(tmp_path).open(resume=False, overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_overwrite_deletes_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", {"progress": {}})
    directory = RunDirectory(tmp_path)
    directory.open(resume=False, overwrite=True)
    directory.close()
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_overwrite_deletes_nothing_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds no config\.yaml, so it is no run"):
        RunDirectory(tmp_path).open(resume=False, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ValueError, match=r"is a file, expected a directory"):
        RunDirectory(tmp_path / "run").open(resume=True, overwrite=False)
    assert (tmp_path / "run").read_text() == "a file"
