"""Files that are whole or absent, and the directory of a run."""

import errno
import fcntl
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mgd_ssl.files import WriteError, require_writable, write_text, write_whole
from mgd_ssl.settings.options import to_dict
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.checkpoint import load_checkpoint, save_checkpoint
from mgd_ssl.training.logging import MetricWriter
from mgd_ssl.training.run_directory import RunDirectory

SETTINGS = to_dict(PretrainConfig())


def take(path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    directory = RunDirectory(path)
    directory.open(resume=resume, overwrite=overwrite)
    directory.close()


def write_run(path: Path) -> Path:
    """A directory with one file of each kind that a run writes."""
    take(path)
    RunDirectory(path).write_config(SETTINGS)
    save_checkpoint(path / "checkpoints" / "last.pt", {"progress": {}})
    save_checkpoint(path / "checkpoints" / "best.pt", {"progress": {}})
    writer = MetricWriter(path)
    writer.write(1, 1.0, {"train_loss": 1.0})
    writer.close()
    (path / "matching").mkdir()
    names = "train.log", "student.safetensors", "matching/epoch_0001.npz"
    for name in (*names, "matching/epoch_0012_step_000345.npz", ".config.yaml.3.tmp"):
        (path / name).write_text(name)
    return path


def files(directory: Path) -> dict[str, bytes]:
    found = (p for p in directory.rglob("*") if p.is_file())
    return {str(p.relative_to(directory)): p.read_bytes() for p in found}


def _full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_look_refuses_what_a_run_would_and_takes_nothing(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "a" / "b").look(resume=False, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file, expected a directory"):
        RunDirectory(tmp_path / "file").look(resume=False, overwrite=False)
    run = write_run(tmp_path / "run")
    before = files(run)
    with pytest.raises(ValueError, match="is not empty, expected a new directory"):
        RunDirectory(run).look(resume=False, overwrite=False)
    assert files(run) == before
    for flags in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        RunDirectory(run).look(**flags)
        assert files(run) == {k: v for k, v in before.items() if not k.endswith(".tmp")}
        take(run, resume=True)  # it is not held


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


def test_a_process_that_outlives_the_run_that_forked_it_holds_no_lock(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    first.open(resume=False, overwrite=False)
    (waiting, go), (begun, begin) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # as a decoding process, until it is told
        os.write(begin, b"x")
        os.read(waiting, 1)
        os._exit(0)
    try:
        os.read(begun, 1)
        with pytest.raises(ValueError, match="in use"):
            second.open(resume=True, overwrite=False)
        assert first._lock
        first._lock.close()  # as the system does where a run is killed
        second.open(resume=True, overwrite=False)
        second.close()
    finally:
        os.write(go, b"x")
        os.waitpid(child, 0)


def test_overwrite_does_not_clear_a_directory_in_use(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run")
    first.open(resume=False, overwrite=False)
    first.write_config(SETTINGS)
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match="in use"):
        RunDirectory(tmp_path / "run").open(resume=False, overwrite=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    first.close()


def test_a_directory_that_is_not_empty_needs_a_flag(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ValueError, match=r"is not empty, expected a new directory; .*--resume"):
        RunDirectory(tmp_path).open(resume=False, overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_a_directory_that_is_not_empty_is_answered_with_a_free_name_beside_it(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "my run")
    take(tmp_path / "my run-2")
    with pytest.raises(ValueError, match=r"name another with --out '.*/my run-3'$"):
        take(run)


def test_overwrite_deletes_all_that_a_run_writes_and_what_was_measured_of_it(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run")
    of_last = (f"checkpoints/last.pt.{name}.json" for name in ("knn", "accuracy", "ap-2"))
    for name in (*of_last, "checkpoints/best.pt.linear-moco-2.json"):
        (run / name).write_text("{}")
    files = [p for p in run.rglob("*") if not p.name.startswith(".")]
    directory = RunDirectory(run)
    directory.open(resume=False, overwrite=True)
    assert all(p.exists() for p in files)
    directory.begin(SETTINGS)
    directory.close()
    assert sorted(p.name for p in run.iterdir()) == [".lock", "config.yaml", "train.log"]


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "src/thesis.tex",
        "checkpoints/mine.pt",
        "matching/plot.png",
        "checkpoints/old/last.pt",
        "config.yaml.bak",
        "EVENTS",
        "..tmp",
        ".notes.txt.12.tmp",
    ],
)
def test_overwrite_names_what_no_run_writes_and_deletes_nothing(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("years of work")
    before = files(run)
    with pytest.raises(ValueError, match=r"which no run writes, so nothing is deleted") as caught:
        take(run, overwrite=True)
    assert name.split("/old")[0].split("src/")[0] in str(caught.value)
    assert files(run) == before


def test_overwrite_follows_no_link(tmp_path: Path) -> None:
    run, thesis = write_run(tmp_path / "run"), tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "last.pt").write_text("years of work")
    shutil.rmtree(run / "checkpoints")
    for link, target in (("checkpoints", thesis), ("student.safetensors", thesis / "last.pt")):
        (run / link).unlink(missing_ok=True)
        (run / link).symlink_to(target)
        with pytest.raises(ValueError, match=f"{link}.*which no run writes"):
            take(run, overwrite=True)
        (run / link).unlink()
    assert (thesis / "last.pt").read_text() == "years of work"


@pytest.mark.parametrize("text", ["seed: 1\n", "network: 3\noptim: {}\n", "[", "", "\0"])
def test_a_config_of_another_project_makes_no_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "thesis.tex").write_text("years of work")
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"another project's config\.yaml, so it is no run"):
        take(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match=r"thesis\.tex and no run to go on with"):
        take(tmp_path, resume=True)
    assert files(tmp_path) == before


def test_a_config_of_another_project_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("theirs: 1\n")
    with pytest.raises(ValueError, match=r"config\.yaml and no run to go on with"):
        take(tmp_path, resume=True)
    assert files(tmp_path) == {"config.yaml": b"theirs: 1\n"}


def test_settings_alone_are_no_run(tmp_path: Path) -> None:
    write_text(tmp_path / "config.yaml", yaml.safe_dump(SETTINGS))
    with pytest.raises(ValueError, match=r"so it is no run"):
        take(tmp_path, overwrite=True)


def test_overwrite_deletes_nothing_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds no config\.yaml, so it is no run"):
        take(tmp_path, overwrite=True)
    assert files(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_run_is_gone_on_with_beside_what_was_put_there_or_from_its_checkpoint_alone(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run")
    (run / "notes.txt").write_text("mine")
    take(run, resume=True)
    save_checkpoint(tmp_path / "moved" / "checkpoints" / "last.pt", {"progress": {}})
    take(tmp_path / "moved", resume=True)
    assert (run / "notes.txt").exists() and (run / "config.yaml").exists()


def test_temporary_files_of_killed_saves_go_when_the_directory_is_next_taken(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run")
    left = ["checkpoints/.last.pt.71.tmp", ".metrics.jsonl.8.tmp", "matching/.epoch_0001.npz.9.tmp"]
    others = ["checkpoints/.last.pt.knn.json.7.tmp", ".notes.txt.7.tmp"]
    for name in [*left, *others]:
        (run / name).write_text("half")
    directory = RunDirectory(run)
    directory.open(resume=True, overwrite=False)
    (run / left[0]).write_text("being written")
    with pytest.raises(ValueError, match="in use"):
        take(run, resume=True)
    assert (run / left[0]).exists()
    directory.close()
    take(run, resume=True)
    assert not any((run / name).exists() for name in left)
    assert all((run / name).exists() for name in others)


def test_a_file_system_without_locks_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(logging.getLogger("mgd_ssl"), "handlers", [caplog.handler])
    take(tmp_path / "run")
    assert "has no locks" in caplog.text and "no other run uses it" in caplog.text


def test_a_lock_that_was_deleted_as_it_was_opened_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a run that is given back in between: its file is no longer that of the directory."""
    run, flock, deleted = write_run(tmp_path / "run"), fcntl.flock, []

    def delete_first(*given: Any) -> None:
        if not deleted:
            deleted.append((run / ".lock").unlink())
        flock(*given)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    directory = RunDirectory(run)
    directory.open(resume=True, overwrite=False)
    assert deleted
    with pytest.raises(ValueError, match="in use"):
        take(run, resume=True)
    directory.close()


def test_a_lock_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    run = write_run(tmp_path / "run")
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match=r"out: .*cannot be written to"):
        take(run, resume=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_place_that_cannot_be_written_names_out() -> None:
    with pytest.raises(ValueError, match=r"out: /proc/run cannot be written to.*with --out"):
        take(Path("/proc/run"))


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ValueError, match=r"is a file, expected a directory"):
        RunDirectory(tmp_path / "run").open(resume=True, overwrite=False)
    assert (tmp_path / "run").read_text() == "a file"


def test_a_damaged_config_beside_a_run_is_to_be_moved_away(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "config.yaml").write_text("network: {arch: [")
    with pytest.raises(ValueError, match=r"config\.yaml holds no settings of a run.*move it away"):
        take(run, resume=True)
    (run / "config.yaml").unlink()
    take(run, resume=True)


def test_a_directory_of_something_else_is_not_told_to_resume_or_overwrite(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"is not empty.*thesis\.tex and no run") as error:
        take(tmp_path)
    assert "--overwrite" not in str(error.value) and "--resume" not in str(error.value)
