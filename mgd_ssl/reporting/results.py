"""Results of the evaluators for a run and for its teacher."""

import glob
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgd_ssl.reporting.places import comparable, located
from mgd_ssl.reporting.reading import is_number, parse_json, read_text, to_path
from mgd_ssl.reporting.runs import Run
from mgd_ssl.reporting.subjects import Subject, find_subject, why_outdated
from mgd_ssl.settings.evaluation import LEARNING_RATES
from mgd_ssl.settings.options import BETWEEN, named

HUB = "hf:"  # before names of data sets on the hub
COUNTED, UNREADABLE = ("train_images", "val_images"), ("train_unreadable", "val_unreadable")
COUNTS = (*COUNTED, *UNREADABLE)  # of images, among a figure's settings
MEASUREMENT = ("size", "data", *COUNTED)
RECIPE = ("epochs", "batch_size", "weight_decay", "holdout", "schedule")
# A figure depends on these settings. A report shows them only if they have other values.
USUAL = {"features": "pooled", "precision": "32", "exif": True}
USUAL |= {"train_folder": None, "val_folder": None, "learning_rates": list(LEARNING_RATES)}


@dataclass(frozen=True)
class Result:
    """One figure of an evaluator.

    Attributes:
        network: "student" or "teacher".
        checkpoint: name of the file that was measured.
        protocol: in the evaluator's words.
        settings: k, T, size, data and so on, and the recipe of a linear probe; not the seed.
        top1: in percent.
        top5: in percent; None if it was not measured.
        versions: of the packages that computed it.
        warnings: of the evaluator, why the figure may say little.
        seed: of a linear probe; None if it is not known.
    """

    network: str
    checkpoint: str
    protocol: str
    settings: Mapping[str, Any]
    top1: float
    top5: float | None
    versions: Mapping[str, str]
    warnings: Sequence[str] = ()
    seed: int | None = None


def read_results(run: Run) -> tuple[list[Result], list[str]]:
    """Results in or next to the run's directory, and those next to its teacher's checkpoint.

    JSON files of other kinds are ignored. Left out are figures of a checkpoint that has changed
    since, and in the run's directory those of networks that are neither its student nor its
    teacher.

    Returns:
        The results, and notes in words on files and figures that were left out.
    """
    around = [*run.path.rglob("*.json"), *run.path.absolute().parent.glob("*.json")]
    own, teachers = ({p.resolve() for p in paths} for paths in (around, _next_to_teacher(run)))
    inside = {path for path in own if run.path.resolve() in path.parents}
    results, notes = list[Result](), list[str]()
    for path in sorted(own | teachers):
        content = _read(path, notes if path in inside | teachers else [])
        if not _rows(content):
            continue
        subject = find_subject(run, content, inside=path in inside)
        if subject is None:
            notes += [_foreign(path, content)] if path in inside else []
        elif subject.network == "teacher" or path in own:
            results += _current(path, content, subject, notes)
    return results, notes


def apart(run: Run, result: Result) -> Iterator[str]:
    """What the images of a figure were that the run's own are not: their size, and their place."""
    size, own = result.settings.get("size"), run.setting("loader.size")
    if None not in (size, own) and size != own:
        yield f"size {size}"
    data = result.settings.get("data")
    if isinstance(data, str) and located(data) not in map(located, _own_data(run)):
        yield f"on {public_name(data)}"


def _own_data(run: Run) -> Iterator[str]:
    """Where the run's images lie, and those that it was measured on."""
    data, measured = run.setting("data") or [], run.setting("evaluation.eval_data")
    yield named(data if isinstance(data, list) else [data])
    yield from [str(measured)] if measured else []


def conditions(result: Result, *, without: Collection[str] = ()) -> str:
    """The protocol and settings that two results must share to be compared."""
    found = comparable(result.settings)
    settings = sorted((k, str(v)) for k, v in found.items() if k not in without)
    return f"{result.protocol} {settings}"


def without_copies(results: Iterable[Result]) -> list[Result]:
    """Results under the same conditions; those of the same seed and figures count once."""
    found = dict[tuple[float | None, ...], Result]()
    for result in results:
        found.setdefault((result.seed, result.top1, result.top5), result)
    return [*found.values()]


def images_given(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Numbers of val and of train images of a figure, with those that could not be read."""
    return _given(settings, "val"), _given(settings, "train")


def _given(settings: Mapping[str, Any], split: str) -> float:
    found = (settings.get(f"{split}_{what}", 0) for what in ("images", "unreadable"))
    return sum(float(count) for count in found if is_number(count))


def images_in_words(settings: Mapping[str, Any]) -> str:
    """As ``48 train / 24 val``, the images of a figure; empty if they were not counted."""
    counts = ((split, settings.get(f"{split}_images")) for split in ("train", "val"))
    return " / ".join(f"{count:,} {split}" for split, count in counts if is_number(count))


def public_name(data: str) -> str:
    """Places of images without their folders, as what is published may say them."""
    names = (p if p.startswith(HUB) else Path(p).name for p in data.split(BETWEEN))
    return BETWEEN.join(names)


def read_published(paths: Sequence[Path]) -> list[Result]:
    """Results of weights that others published, from the evaluators' JSON files.

    Raises:
        ValueError: a file holds no such result.
    """
    return [result for path in paths for result in _published(path)]


def _published(path: Path) -> list[Result]:
    notes = list[str]()
    content = _read(path, notes)
    checkpoint = Path(str(content.get("checkpoint", "")))
    found = _results(path, content, "published", checkpoint, notes)
    if not found:
        raise ValueError(
            f"published: got {path}, expected the JSON file of knn_eval.py or linear_eval.py"
            f"{''.join(f' ({note})' for note in notes)}; evaluate the weights with --out FILE"
        )
    return found


def _next_to_teacher(run: Run) -> list[Path]:
    """Files that may be results of the teacher, if they name its checkpoint."""
    teacher = to_path(run.setting("teacher.teacher"))
    return sorted(teacher.parent.glob(f"{glob.escape(teacher.name)}.*.json")) if teacher else []


def _foreign(path: Path, content: Mapping[str, Any]) -> str:
    """The note on a result of another network."""
    named = content.get("checkpoint", "a network without a name")
    other = "which is neither this run's student nor its teacher"
    return f"{path}: it measures {named}, {other}, and was left out"


def _current(
    path: Path, content: Mapping[str, Any], subject: Subject, notes: list[str]
) -> list[Result]:
    """The figures of a checkpoint; none if it has changed since."""
    outdated = why_outdated(path, content, subject.file)
    if not outdated:
        return _results(path, content, *subject, notes)
    again = "knn_eval.py" if "knn" in content else "linear_eval.py"
    notes.append(f"{path}: {outdated} and was left out; run {again} again")
    return []


def _read(path: Path, notes: list[str]) -> dict[str, Any]:
    """Content of a result file; empty if it holds something else."""
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        notes.append(f"{path}: it cannot be read ({error}) and was left out")
        return {}
    known = isinstance(content, dict) and isinstance(content.get("protocol"), str)
    return content if known else {}


def _rows(content: Mapping[str, Any]) -> list[Any]:
    """What may be the figures of a result; empty if it has none."""
    rows = content.get("knn", [content] if "top1" in content else [])
    return rows if isinstance(rows, list) else [rows]


def _results(
    path: Path, content: Mapping[str, Any], network: str, file: Path, notes: list[str]
) -> list[Result]:
    rows = _rows(content)
    found = [r for r in (_result(content, row, network, file.name) for row in rows) if r]
    if len(found) < len(rows):
        missing = f"{len(rows) - len(found)} of {len(rows)} figures"
        notes.append(f"{path}: {missing} are not percentages and were left out")
    return found


def _result(content: Mapping[str, Any], row: Any, network: str, file: str) -> Result | None:
    """One figure; None if it is not a percentage."""
    if not isinstance(row, dict) or not _is_percent(row.get("top1")):
        return None
    own: dict[str, Any] = {"k": row["k"], "T": row.get("temperature")} if "k" in row else {}
    recipe = RECIPE if "holdout" in row else ("learning_rate", *RECIPE)  # a chosen rate may differ
    own |= {name: row[name] for name in recipe if name in row}
    own |= {name: content[name] for name in MEASUREMENT if name in content}
    own |= {n: content[n] for n, usual in USUAL.items() if content.get(n, usual) != usual}
    own |= {name: content[name] for name in UNREADABLE if content.get(name)}
    versions, warnings, seed = (content.get(name) for name in ("versions", "warnings", "seed"))
    return Result(
        network=network,
        checkpoint=file,
        protocol=content["protocol"],
        settings=own,
        top1=float(row["top1"]),
        top5=float(row["top5"]) if _is_percent(row.get("top5")) else None,
        versions=versions if isinstance(versions, dict) else {},
        warnings=[str(w) for w in warnings] if isinstance(warnings, list) else [],
        seed=seed if isinstance(seed, int) else None,
    )


def _is_percent(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 100
