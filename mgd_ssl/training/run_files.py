"""What a run writes into its directory, and how its directory is known from any other."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

LOCK, CONFIG, LOG, STUDENT = ".lock", "config.yaml", "train.log", "student.safetensors"
FOLDERS = ("checkpoints", "matching")
SECTIONS = ("network", "teacher", "mgd", "optim", "loader", "device")
WRITTEN = re.compile(
    r"\.lock|config\.yaml|train\.log|metrics\.jsonl|loggers\.json|student\.safetensors"
    r"|events\.out\.tfevents\.[^/]+"
    r"|checkpoints/(last|best)\.pt"
    r"|matching/epoch_\d+(_step_\d+)?\.npz"
)
# Beside a checkpoint that is replaced, what the evaluators found would be of another network.
MEASURED = re.compile(
    r"(checkpoints/(last|best)\.pt|student\.safetensors)"
    r"\.(knn|linear-\w+|accuracy|ap)(-\d+)?\.(json|png)"
)
TEMPORARY = re.compile(r"(?P<folder>(.*/)?)\.(?P<name>[^/]+)\.\d+\.tmp")


def is_run(directory: Path) -> bool:
    """Whether a directory is certainly a run's: it has its settings, and what else a run leaves."""
    beside = (directory / name for name in (LOCK, LOG, "metrics.jsonl", "checkpoints"))
    return holds_settings(directory / CONFIG) and any(path.exists() for path in beside)


def holds_settings(path: Path) -> bool:
    """Whether a file holds the settings of a training command of this project."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, RecursionError):
        return False
    return isinstance(content, Mapping) and all(
        isinstance(content.get(section), Mapping) for section in SECTIONS
    )


def best_of(run: Path) -> Path:
    """The checkpoint of a run that holds its best classifier or detector, else its last."""
    best, last = (run / "checkpoints" / name for name in ("best.pt", "last.pt"))
    return best if best.is_file() else last


def classifier_beside(path: Path) -> Path | None:
    """Where a file is the backbone that a run of classify exported, the run's classifier."""
    run, found = path.parent, best_of(path.parent)
    if path.name != STUDENT or not holds_settings(run / CONFIG) or not found.is_file():
        return None
    command = yaml.safe_load((run / CONFIG).read_bytes()).get("command")
    return found if command == "classify" else None


def foreign_entries(directory: Path) -> list[str]:
    """What a directory holds that neither a run nor an evaluator writes there, links among it."""
    return [name for name in _entries(directory) if not _is_written(name)]


def written(directory: Path) -> list[Path]:
    """What a run or an evaluator wrote there, but for the lock; the settings come last."""
    names = [name for name in _entries(directory) if _is_written(name) and name != LOCK]
    return [directory / name for name in sorted(names, key=lambda name: name == CONFIG)]


def temporaries(directory: Path) -> list[Path]:
    """Temporary files of a run's saves; where no run is at work, a kill left them."""
    names = [(name, _named_after(name)) for name in _entries(directory)]
    return [directory / name for name, target in names if target and WRITTEN.fullmatch(target)]


def _is_written(name: str) -> bool:
    target = _named_after(name) or name
    return any(pattern.fullmatch(target) for pattern in (WRITTEN, MEASURED))


def _named_after(name: str) -> str | None:
    """The file that a temporary one was to become."""
    match = TEMPORARY.fullmatch(name)
    return match["folder"] + match["name"] if match else None


def _entries(directory: Path) -> Iterator[str]:
    """Names of files, those of the run's folders too; of other folders and links with a slash."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_file(follow_symlinks=False):
            yield entry.name
        elif entry.name in FOLDERS and entry.is_dir(follow_symlinks=False):
            yield from (f"{entry.name}/{name}" for name in _inside(entry.path))
        else:
            yield f"{entry.name}/"


def _inside(folder: str) -> list[str]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    return [e.name if e.is_file(follow_symlinks=False) else f"{e.name}/" for e in entries]
