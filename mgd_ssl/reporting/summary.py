"""The figures of a report as plain values: the content of its JSON file.

They are rounded here, once, so that the page, the Markdown and the JSON agree.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any, NamedTuple

from mgd_ssl.evaluation.results import versions
from mgd_ssl.reporting.groups import Group, Spread, compared_settings, spread
from mgd_ssl.reporting.headline import Headline
from mgd_ssl.reporting.matching import Solve, changed_share, read_matching
from mgd_ssl.reporting.measures import trained_metric
from mgd_ssl.reporting.origins import origins, read_provenance
from mgd_ssl.reporting.places import comparable
from mgd_ssl.reporting.results import Result, apart, conditions, read_results, without_copies
from mgd_ssl.reporting.runs import FOUND, Run, Series
from mgd_ssl.settings.options import flat, named

# Shown first among the settings in which runs differ.
FIRST = (
    *("method", "network.arch", "network.width", "data", "loader.size", "loader.limit"),
    *("optim.epochs", "optim.batch_size", "optim.optimizer", "optim.lr", "teacher.teacher"),
    *("student_weights", "mgd.mgd_weighing", "mgd.mgd_strength", "mgd.mgd_reducer"),
)
SHARES = ("health/neighbor_overlap",)  # shown in percent, as the bars are


class Measured(NamedTuple):
    """A run's results under the same conditions, such as those of several probes."""

    seed: int  # of the run
    results: Sequence[Result]

    @property
    def top1(self) -> float:
        """The mean, in percent."""
        return fmean(result.top1 for result in self.results)

    @property
    def top5(self) -> float | None:
        """The mean, in percent; None if it was not measured."""
        return _mean(result.top5 for result in self.results)


def summarize(
    title: str, groups: Sequence[Group], published: Sequence[Result] = ()
) -> dict[str, Any]:
    """The figures of a report.

    Args:
        title: of the report.
        groups: of runs.
        published: results of weights that others published.

    Raises:
        ValueError: a file of a run's matching is damaged.
    """
    results = {group.name: grouped_results(group) for group in groups}
    said = Headline(groups, results, published)
    return {
        "title": title,
        "verdict": said.verdict(),
        "panels": said.panels(),
        "settings": _settings(groups),
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


def _settings(groups: Sequence[Group]) -> dict[str, Any]:
    """Settings in which groups differ, with a value for each group, and those that they share."""
    found = [_flat_settings(group) for group in groups]
    compared = [comparable(settings) for settings in found]
    names = list(dict.fromkeys([*FIRST, *(name for settings in found for name in settings)]))
    values = {name: [settings.get(name) for settings in found] for name in names}
    unlike = [n for n in names if any(one.get(n) != compared[0].get(n) for one in compared)]
    differ = {name: values[name] for name in unlike}
    shared = {k: v[0] for k, v in values.items() if k not in differ and v[0] is not None}
    return {"differ": differ, "shared": shared}


def _flat_settings(group: Group) -> dict[str, Any]:
    settings = {**compared_settings(group.first)}
    settings["data"] = named(group.first.setting("data"), "embedded images")
    parts = ((k, ", ".join(map(str, v)) if isinstance(v, list) else v) for k, v in flat(settings))
    shown = {name: None if value == "" else value for name, value in parts}
    for name in FOUND:
        if name in shown:
            shown[name] = group.first.in_words(name, shown[name])
    return shown


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
        "figure": {
            "metric": run.metric,
            "name": trained_metric(group),
            "student": _spread(group.figure),
            "teacher": _spread(group.teacher),
            "percent_of_teacher": _spread(group.percent),
        },
        "loss": _pairs(group.series("train_loss")),
        "losses": {n.removeprefix("train_loss/"): _pairs(group.series(n)) for n in losses},
        "series": dict(_series(group, n) for n in measured),
        "percent_of_teacher": _pairs(group.percent_series),
        "images_per_second": _spread(spread((r.seed, _speed(r)) for r in group.runs)),
        "peak_memory_gib": _spread(memory),
        "results": list(results),
        "matched_run": run.path.absolute().name,
        "matching": _matching(run),
    }


def _series(group: Group, name: str) -> tuple[str, list[list[float]]]:
    """A metric's name and values; a share becomes a percentage."""
    if name not in SHARES:
        return name, _pairs(group.series(name))
    return f"{name}_percent", _pairs({k: 100 * v for k, v in group.series(name).items()})


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
    students: dict[str, list[Measured]] = {}
    teachers: list[Result] = []
    for run in group.runs:
        results, _ = read_results(run)
        teachers += [result for result in results if result.network == "teacher"]
        alike = dict[str, list[Result]]()
        for result in (result for result in results if result.network == "student"):
            alike.setdefault(f"{result.checkpoint} {conditions(result)}", []).append(result)
        for key, found in alike.items():
            students.setdefault(key, []).append(Measured(run.seed, without_copies(found)))
    return [_result(group.first, measured, teachers) for measured in students.values()]


def _result(run: Run, measured: Sequence[Measured], teachers: Sequence[Result]) -> dict[str, Any]:
    """Results under the same conditions, and the teacher's."""
    results = [result for one in measured for result in one.results]
    first, teacher = results[0], _teacher(results[0], teachers)
    top1 = spread((one.seed, one.top1) for one in measured)
    percent = spread((one.seed, 100 * one.top1 / teacher if teacher else None) for one in measured)
    return {
        "checkpoint": first.checkpoint,
        "protocol": first.protocol,
        "settings": dict(first.settings),
        "apart": list(apart(run, first)),
        "repeated": list(_repeated(measured)),
        "top1": _spread(top1),
        "top5": _spread(spread((one.seed, one.top5) for one in measured)),
        "seeds": [one.seed for one in measured],
        "teacher_top1": _round(teacher),
        "percent_of_teacher": _spread(percent),
        "warnings": list(dict.fromkeys(w for result in results for w in result.warnings)),
        "versions": dict(first.versions),
    }


def _teacher(student: Result, teachers: Sequence[Result]) -> float | None:
    """The teacher's figure under the conditions of a student's; its images may differ in size."""
    shared = conditions(student, without=["size"])
    found = [one for one in teachers if conditions(one, without=["size"]) == shared]
    sized = (one for one in found if one.settings.get("size") == found[0].settings.get("size"))
    return _mean(one.top1 for one in without_copies(sized))


def _repeated(measured: Sequence[Measured]) -> Iterator[str]:
    """The number of results that a row averages, if a run has several."""
    results = [result for one in measured for result in one.results]
    if len(results) > len(measured):
        seeds = sorted({result.seed for result in results if result.seed is not None})
        said = f" (seeds {', '.join(map(str, seeds))})" if seeds[1:] else ""
        yield f"mean of {len(results)} results{said}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


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
