"""What the figures show, in sentences, and what they rest on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mgd_ssl.reporting.groups import Group, Spread, baseline_of, differences

Row = Mapping[str, Any]
Results = Mapping[str, Sequence[Row]]
# Files of the same weights, the most relevant first; others come after them by name.
CHECKPOINTS = ("last.pt", "student.safetensors", "best.pt")


def verdict(groups: Sequence[Group], results: Results) -> list[str]:
    """One or more lines for each distilled group, the best group first.

    Args:
        groups: of the report.
        results: evaluators' figures by a group's name, as `summary.grouped_results` gives them.
    """
    distilled = [group for group in ranked(groups, results) if group.role == "distilled"]
    if not distilled:
        return [*_without_distilled(groups)]
    return [line for group in distilled for line in _lines(group, groups, results)]


def ranked(groups: Sequence[Group], results: Results) -> list[Group]:
    """Distilled groups first, the best of them at the top: in training, or by an evaluator."""

    def place(group: Group) -> tuple[bool, bool, float]:
        rows = results.get(group.name, ())
        figures = [group.figure.mean] if group.figure else [row["top1"]["mean"] for row in rows[:1]]
        return group.role == "distilled", bool(figures), sum(figures)

    return sorted(groups, key=place, reverse=True)


def _without_distilled(groups: Sequence[Group]) -> Iterator[str]:
    """The best group of each command: figures of two commands cannot be compared."""
    best: dict[str, tuple[Group, Spread]] = {}
    for group in groups:
        command = group.first.command.line
        if group.figure and (command not in best or group.figure.mean > best[command][1].mean):
            best[command] = group, group.figure
    if not best:
        yield "No run was distilled from a teacher, and none has a validation figure yet."
    for group, figure in best.values():
        yield (
            f"No run was distilled from a teacher. {group.name} has a {metric_words(group)} of "
            f"{figure.mean:.1f}% ({evidence(figure)})."
        )


def metric_words(group: Group) -> str:
    """The validation metric's name, for kNN with the k and T that it was measured at."""
    run = group.first
    k, t = run.setting("evaluation.knn_k"), run.setting("evaluation.knn_t")
    if run.config["command"] != "pretrain" or k is None:
        return run.command.words
    return f"{run.command.words} at k {k}, T {t}"


def _lines(group: Group, groups: Sequence[Group], results: Results) -> list[str]:
    baseline = baseline_of(group, groups)
    lines = [_training_line(group, group.figure, baseline)] if group.figure else []
    lines += _result_lines(group, baseline, results)
    if not lines:
        return [f"{group.name} was measured neither in training nor by an evaluator."]
    lines[-1] += "".join(f" {caution}" for caution in cautions(group, baseline))
    return lines


def _training_line(group: Group, figure: Spread, baseline: Group | None) -> str:
    """What was measured during training."""
    metric = metric_words(group)
    if group.percent and group.teacher:
        text = (
            f"{group.name} reaches {group.percent.mean:.1f}% of the teacher's {metric} "
            f"({figure.mean:.1f} of {group.teacher.mean:.1f}%)"
        )
    else:
        text = f"{group.name} has a {metric} of {figure.mean:.1f}% (the teacher's is not known)"
    if baseline is None or baseline.figure is None:
        return f"{text} ({evidence(figure)})."
    here, there = group.first.measured_with, baseline.first.measured_with
    return text + _comparison(baseline, figure, baseline.figure, here, there)


def _said(value: object) -> object:
    """A setting in words; of a list its parts."""
    return (" + ".join(map(str, value)) or None) if isinstance(value, list) else value


def _comparison(baseline: Group, mine: Spread, theirs: Spread, here: Row, there: Row) -> str:
    """The end of a sentence: the difference from a baseline measured under the same conditions."""
    unlike = [k for k in dict.fromkeys([*here, *there]) if here.get(k) != there.get(k)]
    if unlike:
        listed = ", ".join(
            f"{k} is {_said(there.get(k))} instead of {_said(here.get(k))}" for k in unlike[:3]
        )
        listed += ", …" if len(unlike) > 3 else ""
        return f" ({evidence(mine)}). Not comparable with {described(baseline)}: {listed}."
    text = compared(mine, theirs, described(baseline))
    return f", {text} ({evidence(mine, theirs)})."


def compared(one: Spread, two: Spread, other: str) -> str:
    """How far one figure is from that of ``other``: "2.9 points above OTHER"."""
    points = round(one.mean - two.mean, 1)
    if points == 0:
        return f"level with {other}"
    text = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} {other}"
    spread = _largest_spread(one, two)
    if spread is None or abs(one.mean - two.mean) > spread:
        return text
    return (
        f"{text}; the difference is within the spread of {spread:.1f} between seeds, so it shows "
        "nothing"
    )


def evidence(one: Spread, two: Spread | None = None) -> str:
    """What a figure, or a difference, rests on: "3 seeds each, spread 0.1"."""
    text = _runs(one)
    if two:
        text += " each" if _runs(one) == _runs(two) else f" against {_runs(two)}"
    spread = _largest_spread(one, *([two] if two else []))
    text += "" if spread is None else f", spread {spread:.1f}"
    single = any(len(set(s.seeds)) == 1 for s in (one, two) if s)
    return f"{text}: a difference of one point may be noise" if single else text


def _largest_spread(*figures: Spread) -> float | None:
    return max((f.std for f in figures if f.std is not None), default=None)


def _runs(figure: Spread) -> str:
    seeds, runs = len(set(figure.seeds)), len(figure.seeds)
    text = "one seed" if seeds == 1 else f"{seeds} seeds"
    return text if seeds == runs else f"{runs} runs of {text}"


def described(baseline: Group) -> str:
    """A baseline in words."""
    if not baseline.first.setting("teacher.teacher"):
        return f"{baseline.name}, trained without a teacher"
    return f"the baseline {baseline.name}"


def _result_lines(group: Group, baseline: Group | None, results: Results) -> Iterator[str]:
    """A line for each linear protocol, and one for kNN if training measured none."""
    found: dict[str, list[Row]] = {}
    for row in results.get(group.name, ()):
        if row["protocol"].startswith("linear") or not group.figure:
            found.setdefault(row["protocol"], []).append(row)
    for protocol in sorted(found):
        row, note = headline_row(found[protocol], group)
        others = results.get(baseline.name, ()) if baseline else ()
        others = [other for other in others if other["protocol"] == protocol]
        warned = "".join(f" Caution: {warning}." for warning in row["warnings"])
        yield f"{group.name}, {_result(row)}{_against(row, baseline, others)}{warned}{note}"


def headline_row(rows: Sequence[Row], group: Group) -> tuple[Row, str]:
    """The row that stands for a protocol, and a note if it is not at the default settings.

    For kNN it is the one at the run's own k and T. Otherwise the figure of the most runs comes
    first, then that of the last checkpoint.
    """
    ranked = sorted(rows, key=_rank)
    if "k" not in ranked[0]["settings"]:
        return ranked[0], ""
    k, t = group.first.knn
    exact = [r for r in ranked if (r["settings"].get("k"), r["settings"].get("T")) == (k, t)]
    if exact:
        return exact[0], ""
    near = sorted(ranked, key=lambda r: (r["settings"].get("T") != t, -_k(r["settings"])))
    return near[0], f" The default (k {k}, T {t}) was not measured."


def _k(settings: Row) -> float:
    k = settings.get("k")
    return float(k) if isinstance(k, int | float) else 0.0


def _rank(row: Row) -> tuple[Any, ...]:
    name = row["checkpoint"]
    place = CHECKPOINTS.index(name) if name in CHECKPOINTS else len(CHECKPOINTS)
    return -row["top1"]["runs"], place, name, str(row["settings"])


def described_row(row: Row) -> str:
    """A measurement, as ``kNN, k 20, T 0.1, last.pt``."""
    shown = ("features", "k", "T", "epochs")
    settings = [f"{k} {row['settings'][k]}" for k in shown if k in row["settings"]]
    return ", ".join([row["protocol"], *settings, row["checkpoint"]])


def _result(row: Row) -> str:
    """As ``kNN, k 20, T 0.1, last.pt: 61.4% top-1, 76.0% of the teacher's``."""
    text = f"{described_row(row)}: {row['top1']['mean']:.1f}% top-1"
    if row["percent_of_teacher"]:
        text += f", {row['percent_of_teacher']['mean']:.1f}% of the teacher's"
    return text


def _against(row: Row, baseline: Group | None, others: Sequence[Row]) -> str:
    """The end of the sentence: how a result compares with the baseline's of the same protocol."""
    if baseline is None or not others:
        return f" ({evidence(_top1(row))})."
    here = conditions(row)
    nearest = min(others, key=lambda r: (_count_differences(here, conditions(r)), _rank(r)))
    return _comparison(baseline, _top1(row), _top1(nearest), here, conditions(nearest))


def _top1(row: Row) -> Spread:
    return Spread(row["top1"]["mean"], row["top1"]["std"], row["seeds"])


def conditions(row: Row) -> dict[str, Any]:
    """Settings that a figure was measured with; last.pt and the export hold the same weights."""
    name = row["checkpoint"]
    same = CHECKPOINTS[0] if name in CHECKPOINTS[:2] else name
    return {**row["settings"], "checkpoint": same}


def _count_differences(one: Row, two: Row) -> int:
    return sum(one.get(k) != two.get(k) for k in {*one, *two})


def cautions(group: Group, baseline: Group | None) -> Iterator[str]:
    """Reasons to trust the lines about a group less."""
    both = [group, baseline] if baseline else [group]
    if any(len(set(g.seeds)) < len(g.seeds) for g in both):
        yield "Two runs share a seed, so the spread is underestimated."
    if baseline and (unlike := differences(group, baseline)):
        more = ", …" if len(unlike) > 4 else ""
        yield f"The two groups also differ in {', '.join(unlike[:4])}{more}."
    for run in (run for g in both for run in g.averaged if not run.finished):
        yield f"{run.path.name} is not finished: epoch {run.epoch} of {run.epochs}."
