"""The figures of a report as plain values: the content of its JSON file.

They are rounded here, once, so that the page, the Markdown and the JSON agree.
"""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from mgd_ssl.evaluation.results import versions
from mgd_ssl.reporting.groups import Group, Spread, spread
from mgd_ssl.reporting.matching import Solve, changed_share, read_matching
from mgd_ssl.reporting.origins import origins, read_provenance
from mgd_ssl.reporting.results import Result, read_results
from mgd_ssl.reporting.runs import Run, Series
from mgd_ssl.reporting.verdict import metric_words, verdict
from mgd_ssl.settings.options import named

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
    "student weights": "student_weights",
    "reducer": "mgd.mgd_reducer",
    "kNN k": "evaluation.knn_k",
    "kNN T": "evaluation.knn_t",
    "kNN bank": "evaluation.knn_bank",
}


def summarize(title: str, groups: Sequence[Group]) -> dict[str, Any]:
    """The figures of a report.

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
    return {"mean": _round(found.mean), "std": _round(found.std), "runs": len(found.seeds)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _pairs(series: Series) -> list[list[float]]:
    return [[epoch, short(value)] for epoch, value in series.items()]


def _group(group: Group, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    run = group.first
    losses = [n for n in group.names if n.startswith("train_loss/")]
    measured = [n for n in group.names if n.startswith(("health/", "val_")) and not _is_count(n)]
    memory = spread((r.seed, r.last("peak_memory_gib")) for r in group.runs)
    return {
        "name": group.name,
        "role": group.role,
        "command": run.command.line,
        "seeds": group.seeds,
        "settings": {k: run.setting(v) for k, v in SETTINGS.items()}
        | {"data": named(run.setting("data"), "embedded images")},
        "figure": {
            "metric": run.metric,
            "name": metric_words(group),
            "student": _spread(group.figure),
            "teacher": _spread(group.teacher),
            "percent_of_teacher": _spread(group.percent),
        },
        "losses": {n.removeprefix("train_loss/"): _pairs(group.series(n)) for n in losses},
        "series": {n: _pairs(group.series(n)) for n in measured},
        "percent_of_teacher": _pairs(group.percent_series),
        "images_per_second": _spread(spread((r.seed, _speed(r)) for r in group.runs)),
        "peak_memory_gib": _spread(memory),
        "results": list(results),
        "matching": _matching(run),
    }


def _speed(run: Run) -> float | None:
    """Median over the epochs, since the first one includes warm-up."""
    found = list(run.series("images_per_second").values())
    return median(found) if found else None


def _run(run: Run, group: str) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "group": group,
        "seed": run.setting("seed"),
        "epoch": run.epoch,
        "epochs": run.epochs,
        "finished": run.finished,
        "figure": _round(run.last(run.metric)),
        "percent_of_teacher": _round(run.final_percent),
        "images_per_second": _round(_speed(run)),
        "val_images": _count(run, "val_images"),
        "val_unreadable": _count(run, "val_unreadable"),
        "left_out": [*run.notes, *read_results(run)[1]],
        "origins": list(origins(read_provenance(run.path))),
        "reproduce": _command(run),
    }


def _is_count(name: str) -> bool:
    return name.endswith(("_images", "_unreadable"))


def _count(run: Run, name: str) -> int | None:
    """Number of images of the last figure; None if the run did not count them."""
    found = run.last(name)
    return None if found is None else int(found)


def _command(run: Run) -> str:
    """The command that repeats a run, in a directory next to it."""
    again = run.path.absolute().with_name(f"{run.path.absolute().name}-again")
    words = [*run.command.line.split(), "--config", str(run.path / "config.yaml")]
    return shlex.join([*words, "--out", str(again)])


def grouped_results(group: Group) -> list[dict[str, Any]]:
    """Each evaluator's figures of the student, mean and spread over runs, with the teacher's."""
    students: dict[str, list[tuple[int, Result]]] = {}
    teachers: list[Result] = []
    for run in group.runs:
        results, _ = read_results(run)
        teachers += [result for result in results if result.network == "teacher"]
        own = [result for result in results if result.network == "student"]
        for key, result in {f"{r.checkpoint} {_conditions(r)}": r for r in own}.items():
            students.setdefault(key, []).append((run.seed, result))  # a copy counts once
    return [_result(measured, teachers) for measured in students.values()]


def _conditions(result: Result, *, without: str = "") -> str:
    """The protocol and settings that two results must share to be compared."""
    settings = sorted((k, str(v)) for k, v in result.settings.items() if k != without)
    return f"{result.protocol} {settings}"


def _result(measured: Sequence[tuple[int, Result]], teachers: Sequence[Result]) -> dict[str, Any]:
    """Results under the same conditions, and the teacher's; its images may differ in size."""
    first = measured[0][1]
    conditions = _conditions(first, without="size")
    comparable = (t.top1 for t in teachers if _conditions(t, without="size") == conditions)
    teacher = next(comparable, None)
    top1 = spread((seed, result.top1) for seed, result in measured)
    percent = spread((s, 100 * r.top1 / teacher if teacher else None) for s, r in measured)
    return {
        "checkpoint": first.checkpoint,
        "protocol": first.protocol,
        "settings": dict(first.settings),
        "top1": _spread(top1),
        "top5": _spread(spread((seed, result.top5) for seed, result in measured)),
        "seeds": [seed for seed, _ in measured],
        "teacher_top1": _round(teacher),
        "percent_of_teacher": _spread(percent),
        "warnings": list(dict.fromkeys(w for _, result in measured for w in result.warnings)),
        "versions": dict(first.versions),
    }


def _matching(run: Run) -> dict[str, Any]:
    """The matching of each stage, for the group's first run."""
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
