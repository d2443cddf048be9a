"""What a result is about: a run's student, its teacher, or another network."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.models.weights import files_of
from mgd_ssl.reporting.origins import read_provenance
from mgd_ssl.reporting.reading import to_path
from mgd_ssl.reporting.runs import Run

STUDENT = ("checkpoints/last.pt", "checkpoints/best.pt", "student.safetensors")


class Subject(NamedTuple):
    """A network of a run, and the file that holds it."""

    network: str  # "student" or "teacher"
    file: Path


def find_subject(run: Run, content: Mapping[str, Any], *, inside: bool) -> Subject | None:
    """The network of a run that a result is about; None if it is about another one.

    If one of the run's files has the digests of the measured file, they decide. Otherwise its path
    does.

    Args:
        run: that the result may belong to.
        content: of the result.
        inside: whether the result lies in the run's directory. If so, the path of a file that does
            not exist may be one that the run had before it was moved.
    """
    return _by_digest(run, content) or _by_path(run, content, inside)


def why_outdated(result: Path, content: Mapping[str, Any], file: Path) -> str:
    """Why a result does not count for a checkpoint as it is now, in words; empty if it does.

    Without digests the times of the two files decide.

    Args:
        result: the file of the result.
        content: of the result.
        file: the checkpoint, which need not exist.
    """
    said = _digests_in(content)
    if said:
        now = _digests_of(file)
        return f"it was measured on an earlier {file.name}" if now and now != said else ""
    older = file.is_file() and result.stat().st_mtime_ns < file.stat().st_mtime_ns
    return f"it is older than {file.name}" if older else ""


def _by_digest(run: Run, content: Mapping[str, Any]) -> Subject | None:
    """The file with the result's digests; of several, the one that the result names."""
    said, named = _digests_in(content), to_path(content.get("checkpoint"))
    if not said:
        return None
    found = sorted(_subjects(run), key=lambda subject: to_path(str(subject.file)) != named)
    known = (subject for subject in found if _digests_of(subject.file) == said)
    return next(known, None) or _recorded_teacher(run, said)


def _recorded_teacher(run: Run, said: frozenset[str]) -> Subject | None:
    """The teacher by the digests that the student carries, if its own file is gone."""
    teacher = to_path(run.setting("teacher.teacher"))
    if teacher is None or teacher.exists():
        return None
    recorded = _digests_in(read_provenance(run.path).get("teacher", {}))
    return Subject("teacher", teacher) if recorded == said else None


def _by_path(run: Run, content: Mapping[str, Any], inside: bool) -> Subject | None:
    named = to_path(content.get("checkpoint"))
    if named is None:
        return None
    for subject in _subjects(run):
        if to_path(str(subject.file)) == named:
            return subject
    if _is_in(run, named):
        return Subject("student", named)
    return _moved(run, Path(content["checkpoint"])) if inside and not named.exists() else None


def _moved(run: Run, named: Path) -> Subject | None:
    """The student's file whose path in the run ends as the named path does."""
    for name in STUDENT:
        parts = Path(name).parts
        shared = min(len(parts), len(named.parts))
        if shared and parts[-shared:] == named.parts[-shared:]:
            return Subject("student", run.path / name)
    return None


def _subjects(run: Run) -> Iterator[Subject]:
    yield from (Subject("student", run.path / name) for name in STUDENT)
    if teacher := to_path(run.setting("teacher.teacher")):
        yield Subject("teacher", teacher)


def _is_in(run: Run, file: Path) -> bool:
    """Whether a file is in a run's directory, and in no other run's within it."""
    root = run.path.resolve()
    folders = [*takewhile(lambda folder: folder != root, file.parents)]
    return root in file.parents and not any((f / "config.yaml").is_file() for f in folders)


def _digests_in(content: Mapping[str, Any]) -> frozenset[str]:
    """The digests that a result or a provenance holds; empty if it holds none."""
    found = content.get("sha256")
    return frozenset(map(str, found.values())) if isinstance(found, dict) else frozenset()


def _digests_of(checkpoint: Path) -> frozenset[str]:
    """The digests of a checkpoint's files as they are now; empty if they cannot be read."""
    try:
        return frozenset(_digest(file, _stamp(file)) for file in files_of(checkpoint))
    except (OSError, ValueError):
        return frozenset()


def _stamp(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


@cache
def _digest(file: Path, _stamp: tuple[int, ...]) -> str:
    """A file is read once, as long as its stamp stays the same."""
    return sha256_of(file)[file.name]
