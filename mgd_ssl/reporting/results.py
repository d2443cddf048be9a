"""Results that the evaluators wrote of a run and of its teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgd_ssl.evaluation.report import read_result
from mgd_ssl.reporting.runs import Run

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
    """

    of: str
    checkpoint: str
    protocol: str
    settings: Mapping[str, Any]
    top1: float
    top5: float | None
    versions: Mapping[str, str]


def read_results(run: Run) -> list[Result]:
    """Results in the run's directory or beside it, and those beside its teacher's checkpoint.

    Files that hold something else are passed over.
    """
    found: dict[Path, str] = {}
    for path in sorted([*run.path.rglob("*.json"), *run.path.absolute().parent.glob("*.json")]):
        inside = run.path.resolve() in path.resolve().parents
        owner = _owner(run, path)
        if owner or inside:
            found[path.resolve()] = owner or "student"
    for path in _beside_teacher(run):
        found.setdefault(path.resolve(), "teacher")
    return [result for path, of in found.items() for result in _results(path, of)]


def _beside_teacher(run: Run) -> list[Path]:
    teacher = run.setting("teacher.teacher")
    if not teacher:
        return []
    return sorted(Path(teacher).parent.glob(f"{_literal(Path(teacher).name)}.*.json"))


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _owner(run: Run, path: Path) -> str | None:
    """Whose result a file is, by the checkpoint that it names."""
    checkpoint = read_result(path).get("checkpoint")
    if not isinstance(checkpoint, str):
        return None
    place = Path(checkpoint).resolve()
    teacher = run.setting("teacher.teacher")
    if teacher and place == Path(teacher).resolve():
        return "teacher"
    return "student" if run.path.resolve() in place.parents else None


def _results(path: Path, of: str) -> Iterator[Result]:
    content = read_result(path)
    if not content:
        return
    checkpoint = Path(str(content.get("checkpoint", ""))).name
    names = ("size", "data", "train_images", "val_images")
    shared = {k: content[k] for k in names if k in content}
    versions = content.get("versions") or {}
    rows = content.get("knn") if "knn" in content else [content]
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or not isinstance(row.get("top1"), int | float):
            continue
        own: dict[str, Any] = {"k": row["k"], "T": row["temperature"]} if "k" in row else {}
        own |= {k: row[k] for k in RECIPE if k in row}
        protocol = content["protocol"]
        figures = float(row["top1"]), row.get("top5")
        yield Result(of, checkpoint, protocol, {**own, **shared}, *figures, versions)
