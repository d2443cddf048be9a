"""Everything that a report says in numbers, as plain values: what the JSON holds.

Numbers are rounded here, once, so that page, Markdown and JSON say the same.
"""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from mgd_ssl.evaluation.results import versions
from mgd_ssl.reporting.groups import Group, Spread, spread
from mgd_ssl.reporting.matching import Solve, changed_share, read_matching
from mgd_ssl.reporting.results import Result, read_results
from mgd_ssl.reporting.runs import COMMANDS, FIGURES, Run, Series
from mgd_ssl.reporting.verdict import figure_words, verdict

SETTINGS = {
    "method": "method",
    "network": "network.arch",
    "width": "network.width",
    "data": "data",
    "size": "loader.size",
    "images": "loader.limit",
    "epochs": "optim.epochs",
    "batch": "optim.batch_size",
    "lr": "optim.lr",
    "teacher": "teacher.teacher",
    "reducer": "mgd.mgd_reducer",
    "kNN k": "evaluation.knn_k",
    "kNN T": "evaluation.knn_t",
    "kNN bank": "evaluation.knn_bank",
}


def summarise(title: str, groups: Sequence[Group]) -> dict[str, Any]:
    """The numbers of a report.

    Raises:
        ValueError: a file of a run's matching is damaged.
    """
    results = {group.name: grouped_results(group) for group in groups}
    return {
        "title": title,
        "verdict": verdict(groups, results),
        "groups": [_group(group, results[group.name]) for group in groups],
        "runs": [_run(run, group.name) for group in groups for run in group.runs],
        "versions": versions(),
    }


def short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def _spread(found: Spread | None) -> dict[str, Any] | None:
    if found is None:
        return None
    std = None if found.std is None else round(found.std, 2)
    return {"mean": round(found.mean, 2), "std": std, "runs": found.runs}


def _pairs(series: Series) -> list[list[float]]:
    return [[epoch, short(value)] for epoch, value in series.items()]


def _group(group: Group, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    run = group.first
    metric, _ = FIGURES[run.kind]
    losses = [n for n in group.names if n.startswith("train_loss/")]
    watched = [n for n in group.names if n.startswith(("health/", "val_")) and not _is_count(n)]
    speed = spread(_speed(r) for r in group.runs)
    return {
        "name": group.name,
        "role": group.role,
        "command": COMMANDS[run.kind],
        "seeds": group.seeds,
        "settings": {k: _plain(run.setting(v)) for k, v in SETTINGS.items()},
        "figure": {"metric": metric, "name": figure_words(group), "student": _spread(group.figure)}
        | {"teacher": _spread(group.teacher), "percent_of_teacher": _spread(group.percent)},
        "losses": {n.removeprefix("train_loss/"): _pairs(group.series(n)) for n in losses},
        "series": {n: _pairs(group.series(n)) for n in watched},
        "percent_of_teacher": _pairs(group.series(lambda r: r.percent)),
        "images_per_second": _spread(speed),
        "peak_memory_gib": _spread(spread(r.last("peak_memory_gib") for r in group.runs)),
        "results": list(results),
        "matching": _matching(run),
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _speed(run: Run) -> float | None:
    """Median over the epochs: the first one also warms up."""
    found = list(run.series("images_per_second").values())
    return median(found) if found else None


def _run(run: Run, group: str) -> dict[str, Any]:
    figure = run.last(run.metric)
    percent = next(reversed(run.percent.values()), None)
    speed = _speed(run)
    return {
        "path": str(run.path),
        "group": group,
        "seed": run.setting("seed"),
        "epoch": run.epoch,
        "epochs": run.epochs,
        "finished": run.finished,
        "figure": None if figure is None else round(figure, 2),
        "percent_of_teacher": None if percent is None else round(percent, 2),
        "images_per_second": None if speed is None else round(speed, 2),
        "val_images": _count(run, "val_images"),
        "val_unreadable": _count(run, "val_unreadable"),
        "left_out": [*run.notes, *read_results(run)[1]],
        "reproduce": _command(run),
    }


def _is_count(name: str) -> bool:
    return name.endswith(("_images", "_unreadable"))


def _count(run: Run, name: str) -> int | None:
    """Images, of the last figure; None where the run did not count them."""
    found = run.last(name)
    return None if found is None else int(found)


def _command(run: Run) -> str:
    """What repeats a run, in a directory beside it."""
    again = run.path.absolute().with_name(f"{run.path.absolute().name}-again")
    words = [*COMMANDS[run.kind].split(), "--config", str(run.path / "config.yaml")]
    return shlex.join([*words, "--out", str(again)])


def grouped_results(group: Group) -> list[dict[str, Any]]:
    """Each evaluator's figure of the student, mean and spread over runs, beside the teacher's."""
    found: dict[Any, list[tuple[int, Result]]] = {}
    for run in group.runs:
        results, _ = read_results(run)
        own = {(r.of, r.checkpoint, _key(r)): r for r in results}  # a copy counts once
        for key, result in own.items():
            found.setdefault(key, []).append((run.seed, result))
    rows = []
    for (of, _, key), measured in found.items():
        if of == "teacher":
            continue
        teachers = [ms for (o, _, k), ms in found.items() if o == "teacher" and _alike(k, key)]
        of_teacher = [result for _, result in teachers[0]] if teachers else []
        seeds, figures = [seed for seed, _ in measured], [result for _, result in measured]
        rows.append(_result(seeds, figures, of_teacher))
    return rows


def _key(result: Result) -> tuple[Any, ...]:
    """What must agree for two figures to be of one kind; a chosen learning rate need not."""
    free = ("seed", "learning_rate") if "holdout" in result.settings else ("seed",)
    settings = {k: v for k, v in result.settings.items() if k not in free}
    return result.protocol, tuple(sorted((k, str(v)) for k, v in settings.items()))


def _alike(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    """Whether a teacher's figure may stand beside a student's: its images may be larger."""
    bare = [[kv for kv in key[1] if kv[0] != "size"] for key in (one, two)]
    return bool(one[0] == two[0] and bare[0] == bare[1])


def _result(
    seeds: Sequence[int], results: Sequence[Result], teachers: Sequence[Result]
) -> dict[str, Any]:
    first = results[0]
    top1 = spread(r.top1 for r in results)
    teacher = fmean(t.top1 for t in teachers) if teachers else None
    percent = spread(100 * r.top1 / teacher for r in results) if teacher else None
    hidden = ("seed", "learning_rate") if "holdout" in first.settings else ("seed",)
    return {
        "checkpoint": first.checkpoint,
        "protocol": first.protocol,
        "settings": {k: v for k, v in first.settings.items() if k not in hidden},
        "top1": _spread(top1),
        "top5": _spread(spread(r.top5 for r in results)),
        "seeds": list(seeds),
        "teacher_top1": None if teacher is None else round(teacher, 2),
        "percent_of_teacher": _spread(percent),
        "warnings": list(dict.fromkeys(w for r in results for w in r.warnings)),
        "versions": dict(first.versions),
    }


def _matching(run: Run) -> dict[str, Any]:
    """Of the group's first run."""
    return {name: _stage(solves) for name, solves in read_matching(run.path).items()}


def _stage(solves: Sequence[Solve]) -> dict[str, Any]:
    last = solves[-1]
    changes = [changed_share(a, b) for a, b in pairwise(solves)]
    shares = [None, *(round(100 * share, 2) for share in changes)]
    return {
        "student_channels": len(last.cost),
        "teacher_channels": last.cost.shape[1],
        "group_sizes": {str(size): count for size, count in last.sizes.items()},
        "never_chosen": last.never_chosen,
        "solves": [
            {"before": solve.when, "total_cost": short(solve.total), "changed_percent": share}
            for solve, share in zip(solves, shares, strict=True)
        ],
    }
