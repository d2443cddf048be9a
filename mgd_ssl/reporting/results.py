"""Results that the evaluators wrote of a run and of its teacher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgd_ssl.reporting.reading import is_number, parse_json, place, read_text
from mgd_ssl.reporting.runs import Run

SHARED = ("size", "data", "train_images", "val_images")
RECIPE = ("epochs", "learning_rate", "batch_size", "weight_decay", "holdout", "seed")


@dataclass(frozen=True)
class Result:
    """One figure of an evaluator, with what stands beside it.

    Attributes:
        of: "student" or "teacher".
        checkpoint: name of the file that was measured.
        protocol: in the evaluator's words.
        settings: k, T, size, data and the like, and the recipe of a linear probe.
        top1: in percent.
        top5: in percent; None where it was not measured.
        versions: of the packages that made it.
        warnings: why the figure may say little, in the evaluator's words.
    """

    of: str
    checkpoint: str
    protocol: str
    settings: Mapping[str, Any]
    top1: float
    top5: float | None
    versions: Mapping[str, str]
    warnings: Sequence[str] = ()


def read_results(run: Run) -> tuple[list[Result], list[str]]:
    """Results in the run's directory or beside it, and those beside its teacher's checkpoint.

    Files that hold something else are passed over. What of a result cannot be read is said in
    words, beside the results.
    """
    home, found, notes = run.path.resolve(), dict[Path, str](), list[str]()
    for path in sorted([*run.path.rglob("*.json"), *run.path.absolute().parent.glob("*.json")]):
        inside = home in path.resolve().parents
        content = _read(path, notes if inside else [])
        if content and (owner := _owner(run, content) or ("student" if inside else None)):
            found[path.resolve()] = owner
    for path in _beside_teacher(run):
        if _owner(run, _read(path, notes)) == "teacher":
            found.setdefault(path.resolve(), "teacher")
    results = [r for path, of in found.items() for r in _results(path, of, notes)]
    return results, list(dict.fromkeys(notes))


def _beside_teacher(run: Run) -> list[Path]:
    """What may be results of the teacher: each must name its checkpoint itself."""
    teacher = place(run.setting("teacher.teacher") or "")
    if teacher is None or not run.setting("teacher.teacher"):
        return []
    return sorted(teacher.parent.glob(f"{_literal(teacher.name)}.*.json"))


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _owner(run: Run, content: Mapping[str, Any]) -> str | None:
    """Whose result a file holds, by the checkpoint that it names."""
    checkpoint = content.get("checkpoint")
    named = place(checkpoint) if isinstance(checkpoint, str) else None
    if named is None:
        return None
    teacher = run.setting("teacher.teacher")
    if teacher and named == place(teacher):
        return "teacher"
    return "student" if run.path.resolve() in named.parents else None


def _read(path: Path, notes: list[str]) -> dict[str, Any]:
    """A result file's content; empty where it holds none."""
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        notes.append(f"{path}: no result can be read ({error}), it is left out")
        return {}
    known = isinstance(content, dict) and isinstance(content.get("protocol"), str)
    return content if known else {}


def _results(path: Path, of: str, notes: list[str]) -> Iterator[Result]:
    content = _read(path, [])
    rows = content.get("knn", [content] if "top1" in content else [])
    rows = rows if isinstance(rows, list) else [rows]
    found = [r for r in (_result(content, row, of) for row in rows) if r]
    if len(found) < len(rows):
        missing = len(rows) - len(found)
        notes.append(f"{path}: {missing} of {len(rows)} figures are no percentages, left out")
    yield from found


def _result(content: Mapping[str, Any], row: Any, of: str) -> Result | None:
    """One figure; None where it is no percentage."""
    if not isinstance(row, dict) or not _is_percent(row.get("top1")):
        return None
    own: dict[str, Any] = {"k": row["k"], "T": row.get("temperature")} if "k" in row else {}
    own |= {k: row[k] for k in RECIPE if k in row}
    versions, warnings = content.get("versions"), content.get("warnings")
    return Result(
        of=of,
        checkpoint=Path(str(content.get("checkpoint", ""))).name,
        protocol=content["protocol"],
        settings={**own, **{k: content[k] for k in SHARED if k in content}, **_unreadable(content)},
        top1=float(row["top1"]),
        top5=float(row["top5"]) if _is_percent(row.get("top5")) else None,
        versions=versions if isinstance(versions, dict) else {},
        warnings=[str(w) for w in warnings] if isinstance(warnings, list) else [],
    )


def _unreadable(content: Mapping[str, Any]) -> dict[str, Any]:
    """Images that could not be decoded, where there were any."""
    names = ("train_unreadable", "val_unreadable")
    return {name: content[name] for name in names if content.get(name)}


def _is_percent(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 100
