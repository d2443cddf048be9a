"""Which results in and beside a run's directory are its student's or its teacher's."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file
from written_runs import write_run

from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.reporting import group_runs, read_run, read_runs, subjects, summarize
from mgd_ssl.reporting.document import render
from mgd_ssl.reporting.results import read_results


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A teacher's checkpoint."""
    return written(tmp_path / "zoo" / "teacher.pt", b"teacher")


@pytest.fixture
def run(tmp_path: Path, teacher: Path) -> Path:
    """A run with its three files of the student."""
    path = write_run(tmp_path / "runs" / "run", teacher={"teacher": str(teacher)})
    for name in subjects.STUDENT:
        written(path / name, name.encode())
    return path


def written(path: Path, content: bytes) -> Path:
    """A file that stands for a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def measured(out: Path, checkpoint: Path | str, *files: Path, **more: Any) -> Path:
    """A result of a checkpoint, with the digests of files; earlier versions wrote none."""
    knn = [{"k": 20, "temperature": 0.1, "top1": 61.0, "top5": 99.0}]
    content = {"protocol": "kNN, moco", "checkpoint": str(checkpoint), "size": 32, "knn": knn}
    content |= {"sha256": sha256_of(*files)} if files else {}
    return written(out, json.dumps(content | more).encode())


def found(run: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Networks and files of the results, and the notes."""
    results, notes = read_results(read_run(run))
    return [(result.network, result.checkpoint) for result in results], notes


def neither(path: Path, named: Path | str) -> str:
    """The note on a result of another network."""
    other = "which is neither this run's student nor its teacher"
    return f"{path}: it measures {named}, {other}, and was left out"


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("name", ["baseline.json", "checkpoints/last.pt.knn.json"])
def test_a_result_of_another_run_is_not_the_students(run: Path, name: str, digest: bool) -> None:
    other = written(run.parent / "other" / "checkpoints" / "last.pt", b"other")
    out = measured(run / name, other, *[other] * digest)
    assert found(run) == ([], [neither(out, other)])


def test_results_of_other_networks_beside_the_run_are_none_of_its_own(run: Path) -> None:
    other = written(run.parent / "other" / "checkpoints" / "last.pt", b"other")
    measured(run.parent / "other.json", other, other)
    measured(run.parent / "earlier.json", other)
    assert found(run) == ([], [])


def test_a_run_within_the_directory_is_another_one(run: Path, teacher: Path) -> None:
    inner = written(run / "classify" / "checkpoints" / "last.pt", b"inner")
    written(run / "classify" / "config.yaml", b"")
    out = measured(inner.with_name("last.pt.knn.json"), inner, inner)
    assert found(run) == ([], [neither(out, inner)])


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("name", [*subjects.STUDENT, "checkpoints/last.timm.safetensors"])
def test_each_file_of_a_run_is_its_student(run: Path, name: str, digest: bool) -> None:
    file = written(run / name, name.encode())
    measured(run / "a.json", file, *[file] * digest)
    measured(run.parent / "b.json", file, *[file] * digest)
    assert found(run) == ([("student", file.name)] * 2, [])


@pytest.mark.parametrize("digest", [True, False])
def test_a_run_that_was_moved_keeps_its_results(run: Path, teacher: Path, digest: bool) -> None:
    for name in subjects.STUDENT:
        file = run / name
        measured(file.with_name(f"{file.name}.knn.json"), file, *[file] * digest)
    measured(run / "teacher.json", teacher, *[teacher] * digest)
    moved = run.rename(run.parent.with_name("moved"))
    students = [("student", name) for name in ("best.pt", "last.pt", "student.safetensors")]
    assert found(moved) == ([*students, ("teacher", "teacher.pt")], [])


@pytest.mark.parametrize(
    ("named", "is_own"),
    [
        ("runs/run/checkpoints/best.pt", True),  # of another working directory
        ("best.pt", True),
        ("elsewhere/student.safetensors", True),
        ("elsewhere/best.pt", False),
        ("checkpoints/epoch_2.pt", False),
        ("resnet50", False),
        (".", False),
    ],
)
def test_a_path_that_does_not_exist_is_the_students_by_its_end(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, is_own: bool
) -> None:
    monkeypatch.chdir(written(tmp_path / "empty" / "file", b"").parent)
    out = measured(run / "a.json", named)
    results, notes = found(run)
    assert results == ([("student", Path(named).name)] if is_own else [])
    assert notes == ([] if is_own else [neither(out, named)])


def test_copies_are_known_by_their_digests(run: Path, teacher: Path, tmp_path: Path) -> None:
    for original, name in ((teacher, "t.pt"), (run / "checkpoints" / "best.pt", "s.pt")):
        copy = Path(shutil.copy(original, tmp_path / name))
        measured(run / f"{name}.json", copy, copy)
    measured(run / "u.json", "gone.pt", teacher)
    expected = [("student", "best.pt"), ("teacher", "teacher.pt"), ("teacher", "teacher.pt")]
    assert found(run) == (expected, [])


def test_of_files_with_the_same_bytes_the_named_one_counts(run: Path) -> None:
    last, best = (run / "checkpoints" / name for name in ("last.pt", "best.pt"))
    shutil.copy(last, best)
    measured(run / "a.json", best, best)
    measured(run / "b.json", last, last)
    assert found(run) == ([("student", "best.pt"), ("student", "last.pt")], [])


def test_a_teacher_whose_file_is_gone_is_known_by_what_the_student_carries(
    run: Path, teacher: Path, tmp_path: Path
) -> None:
    copy = Path(teacher.rename(tmp_path / "copy.pt"))
    out = measured(run / "teacher.json", copy, copy)
    assert found(run) == ([], [neither(out, copy)])
    (digest,) = sha256_of(copy).values()
    carried = {"teacher": {"source": "teacher.pt", "sha256": {"teacher.pt": digest}}}
    save_file({}, run / "student.safetensors", {"provenance": json.dumps(carried)})
    assert found(run) == ([("teacher", "teacher.pt")], [])


def test_a_teacher_in_shards_is_known_by_all_of_its_files(run: Path, tmp_path: Path) -> None:
    index = written(tmp_path / "zoo" / "index.json", b'{"weight_map": {"a": "1.safetensors"}}')
    shard = written(tmp_path / "zoo" / "1.safetensors", b"one")
    run = write_run(tmp_path / "runs" / "sharded", teacher={"teacher": str(index)})
    measured(run / "a.json", index, index, shard)
    assert found(run) == ([("teacher", "index.json")], [])
    shard.write_bytes(b"another")
    results, (note,) = found(run)
    assert results == [] and "on an earlier index.json" in note
    shard.unlink()  # what cannot be compared is shown
    assert found(run) == ([("teacher", "index.json")], [])


@pytest.mark.parametrize("sha256", [{}, [], 7, None])
def test_digests_of_another_type_are_none(run: Path, sha256: object) -> None:
    measured(run / "a.json", run / "checkpoints" / "last.pt", sha256=sha256)
    assert found(run) == ([("student", "last.pt")], [])


@pytest.mark.parametrize("name", [*subjects.STUDENT, "checkpoints/last.timm.safetensors"])
def test_figures_of_a_checkpoint_that_has_changed_are_left_out(run: Path, name: str) -> None:
    file = written(run / name, b"epoch 2")
    out = measured(file.with_name(f"{file.name}.knn.json"), file, file)
    assert found(run) == ([("student", file.name)], [])
    file.write_bytes(b"after epoch 6")
    os.utime(out)  # a digest counts, whatever the times
    note = (
        f"{out}: it was measured on an earlier {file.name} and was left out; run knn_eval.py again"
    )
    assert found(run) == ([], [note])
    page, markdown, _ = render(summarize("", groups := group_runs(read_runs([run]))), groups)
    assert "it was measured on an earlier" in page and "61.0" not in page + markdown
    measured(out, file, file)
    assert found(run) == ([("student", file.name)], [])


def test_the_note_names_the_command_of_the_figure(run: Path) -> None:
    file = run / "checkpoints" / "last.pt"
    out = measured(run / "a.json", file, file, protocol="linear, cached", top1=50.0)
    content = json.loads(out.read_text())
    content.pop("knn")
    out.write_text(json.dumps(content))
    assert found(run) == ([("student", "last.pt")], [])
    file.write_bytes(b"after epoch 6")
    assert found(run)[1][0].endswith("and was left out; run linear_eval.py again")


def test_figures_of_a_teacher_that_has_changed_are_left_out(run: Path, teacher: Path) -> None:
    out = measured(teacher.with_name("teacher.pt.knn.json"), teacher, teacher)
    assert found(run) == ([("teacher", "teacher.pt")], [])
    teacher.write_bytes(b"trained on")
    results, (note,) = found(run)
    assert results == [] and note.startswith(f"{out}: it was measured on an earlier teacher.pt")


def test_figures_of_a_run_that_was_moved_and_resumed_are_left_out(run: Path) -> None:
    file = run / "checkpoints" / "last.pt"
    measured(file.with_name("last.pt.knn.json"), file, file)
    moved = run.rename(run.with_name("moved"))
    written(moved / "checkpoints" / "last.pt", b"after epoch 6")
    results, (note,) = found(moved)
    assert results == [] and "it was measured on an earlier last.pt" in note


def test_without_digests_the_times_decide(run: Path) -> None:
    file = run / "checkpoints" / "last.pt"
    out = measured(file.with_name("last.pt.knn.json"), file)
    os.utime(file, (1000, 1000))
    for time, results in ((1000, [("student", "last.pt")]), (999, [])):
        os.utime(out, (time, time))
        assert found(run)[0] == results
    note = f"{out}: it is older than last.pt and was left out; run knn_eval.py again"
    assert found(run)[1] == [note]
    file.unlink()  # nothing to compare with
    assert found(run) == ([("student", "last.pt")], [])


def test_results_without_figures_that_are_shown_have_no_note(run: Path) -> None:
    file = run / "checkpoints" / "last.pt"
    measured(run / "a.json", file, file, knn=[])
    measured(run / "b.json", "other.pt", knn=[])
    file.write_bytes(b"after epoch 6")
    assert found(run) == ([], [])


def test_each_file_is_read_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[str]()

    def counted(*files: Path) -> dict[str, str]:
        read.extend(file.name for file in files)
        return sha256_of(*files)

    monkeypatch.setattr(subjects, "sha256_of", counted)
    for name in ("a", "b"):
        measured(run / f"{name}.json", run / "elsewhere.pt", run / "config.yaml")
    found(run), found(run)
    assert sorted(read) == ["best.pt", "last.pt", "student.safetensors", "teacher.pt"]
