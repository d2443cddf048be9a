"""What the numbers say, in plain words, and how far they can be trusted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgd_ssl.reporting.groups import Group, Spread, baseline_of, differences
from mgd_ssl.reporting.runs import FIGURES

Row = Mapping[str, Any]
Results = Mapping[str, Sequence[Row]]
# Files of the same weights, the most telling first; others come after them by name.
CHECKPOINTS = ("last.pt", "student.safetensors", "best.pt")
NOISE = "a difference of a point may be noise"


@dataclass(frozen=True)
class Evidence:
    """A figure, and the runs that it rests on.

    Attributes:
        figure: over the runs, in percent.
        seeds: of each run.
    """

    figure: Spread
    seeds: Sequence[int]


def verdict(groups: Sequence[Group], results: Results) -> list[str]:
    """A line or more for each distilled group, the best first.

    Args:
        groups: of the report.
        results: evaluators' figures by a group's name, as `summary.grouped_results` gives them.
    """
    distilled = [group for group in groups if group.role == "distilled"]
    if not distilled:
        return [*_without_distilled(groups)]
    ranked = sorted(distilled, key=lambda g: g.figure.mean if g.figure else -1.0, reverse=True)
    return [line for group in ranked for line in _lines(group, groups, results)]


def _without_distilled(groups: Sequence[Group]) -> Iterator[str]:
    """The best group of each kind: figures of two kinds cannot be compared."""
    known = [g for g in groups if g.figure]
    if not known:
        yield "No run was distilled from a teacher, and none has a validation figure yet."
    for kind in dict.fromkeys(g.first.kind for g in known):
        best = max((g for g in known if g.first.kind == kind), key=_mean)
        yield (
            f"No run was distilled from a teacher. {best.name} has a {figure_words(best)} of "
            f"{_mean(best):.1f} % ({trusted(_evidence(best), None)})."
        )


def _mean(group: Group) -> float:
    assert group.figure is not None
    return group.figure.mean


def figure_words(group: Group) -> str:
    """The validation figure's name, with the k and the T that it was measured at."""
    run = group.first
    words = FIGURES[run.kind][1]
    if run.kind != "pretrain" or run.setting("evaluation.knn_k") is None:
        return words
    return f"{words} at k {run.setting('evaluation.knn_k')}, T {run.setting('evaluation.knn_t')}"


def _evidence(group: Group) -> Evidence:
    assert group.figure is not None
    return Evidence(group.figure, [run.seed for run in group.counted])


def _lines(group: Group, groups: Sequence[Group], results: Results) -> list[str]:
    other = baseline_of(group, groups)
    lines = [_sentence(group, other)] if group.figure else []
    lines += _of_results(group, other, results)
    if not lines:
        return [f"{group.name}: nothing was measured, neither in training nor by an evaluator."]
    lines[-1] += _hedges(group, other)
    return lines


def _sentence(group: Group, other: Group | None) -> str:
    """What was measured in training."""
    assert group.figure is not None
    words, one = figure_words(group), _evidence(group)
    if group.percent and group.teacher:
        text = (
            f"{group.name} reaches {group.percent.mean:.1f} % of the teacher's {words} "
            f"({group.figure.mean:.1f} of {group.teacher.mean:.1f} %)"
        )
    else:
        text = (
            f"{group.name} has a {words} of {group.figure.mean:.1f} %; the teacher's is not known"
        )
    if other is None or other.figure is None:
        return f"{text} ({trusted(one, None)})."
    unlike = _unlike(group.first.measured_on, other.first.measured_on)
    if unlike:
        return f"{text} ({trusted(one, None)}). Not compared with {_called(other)}: {unlike}."
    two = _evidence(other)
    return f"{text}; {compared(one.figure, two.figure, _called(other))} ({trusted(one, two)})."


def compared(one: Spread, two: Spread, other: str) -> str:
    """How far one figure is from that of ``other``: "2.9 points above OTHER"."""
    points = round(one.mean - two.mean, 1)
    if points == 0:
        return f"level with {other}"
    text = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"
    spread = _largest_spread(one, two)
    if spread is not None and abs(one.mean - two.mean) <= spread:
        return (
            f"no difference from {other} is shown: {text}, within the spread of {spread:.1f} "
            "between seeds"
        )
    return f"{text} {other}"


def trusted(one: Evidence, two: Evidence | None) -> str:
    """What a figure, or a difference, rests on: "3 seeds each, spread 0.1"."""
    text = _runs(one)
    if two:
        same = _runs(one) == _runs(two)
        text += " each" if same else f" against {_runs(two)}"
    spread = _largest_spread(one.figure, *([two.figure] if two else []))
    text += "" if spread is None else f", spread {spread:.1f}"
    alone = any(len(set(e.seeds)) == 1 for e in (one, two) if e)
    return f"{text}: {NOISE}" if alone else text


def _largest_spread(*figures: Spread) -> float | None:
    return max((f.std for f in figures if f.std is not None), default=None)


def _runs(evidence: Evidence) -> str:
    seeds, runs = len(set(evidence.seeds)), len(evidence.seeds)
    text = "one seed" if seeds == 1 else f"{seeds} seeds"
    return text if seeds == runs else f"{runs} runs of {text}"


def _unlike(one: Row, two: Row) -> str:
    """In what two ways to measure differ: "its k is 200, not 20"; empty where they do not."""
    names = [k for k in dict.fromkeys([*one, *two]) if one.get(k) != two.get(k)]
    parts = [f"its {name} is {two.get(name)}, not {one.get(name)}" for name in names[:3]]
    return ", ".join(parts) + (", …" if len(names) > 3 else "")


def _called(other: Group) -> str:
    if not other.first.setting("teacher.teacher"):
        return f"the student trained without a teacher, {other.name}"
    return f"the baseline {other.name}"


def _of_results(group: Group, other: Group | None, results: Results) -> Iterator[str]:
    """A line for each linear protocol, and one for kNN where training measured none."""
    rows = results.get(group.name, ())
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["protocol"].startswith("linear") or not group.figure:
            found.setdefault(row["protocol"], []).append(row)
    for protocol in sorted(found):
        row, why = _headline(found[protocol], group)
        others = [
            r for r in (results.get(other.name, ()) if other else ()) if r["protocol"] == protocol
        ]
        yield f"{group.name}, {_measured(row)}" + _beside(row, other, others) + why


def _headline(rows: Sequence[Row], group: Group) -> tuple[Row, str]:
    """The row that stands for a protocol, and why it is another than the default's.

    For kNN that of the run's own k and T. Of several, that of the most runs counts, and then that
    of the last checkpoint.
    """
    ranked = sorted(rows, key=_preference)
    if "k" not in ranked[0]["settings"]:
        return ranked[0], ""
    k, t = group.first.knn
    exact = [r for r in ranked if (r["settings"].get("k"), r["settings"].get("T")) == (k, t)]
    if exact:
        return exact[0], ""
    near = sorted(ranked, key=lambda r: (r["settings"].get("T") != t, -_number(r["settings"])))
    return near[0], f" The default, k {k} and T {t}, was not measured."


def _number(settings: Row) -> float:
    k = settings.get("k")
    return float(k) if isinstance(k, int | float) else 0.0


def _preference(row: Row) -> tuple[Any, ...]:
    name = row["checkpoint"]
    place = CHECKPOINTS.index(name) if name in CHECKPOINTS else len(CHECKPOINTS)
    return -row["top1"]["runs"], place, name, str(row["settings"])


def _measured(row: Row) -> str:
    """As ``kNN, k 20, T 0.1, of last.pt: 61.4 % top-1, 76.0 % of the teacher's``."""
    settings = [f"{k} {row['settings'][k]}" for k in ("k", "T", "epochs") if k in row["settings"]]
    text = ", ".join([row["protocol"], *settings, f"of {row['checkpoint']}"])
    text += f": {row['top1']['mean']:.1f} % top-1"
    if row["percent_of_teacher"]:
        text += f", {row['percent_of_teacher']['mean']:.1f} % of the teacher's"
    return text


def _beside(row: Row, other: Group | None, others: Sequence[Row]) -> str:
    """How a row compares with the baseline's of the same protocol, and what it rests on."""
    one = Evidence(Spread(**row["top1"]), row["seeds"])
    doubts = "".join(f" It is doubtful: {warning}." for warning in row["warnings"])
    if other is None or not others:
        return f" ({trusted(one, None)}).{doubts}"
    mine = _conditions(row)
    match = min(others, key=lambda r: (_differences(mine, _conditions(r)), _preference(r)))
    unlike = _unlike(mine, _conditions(match))
    if unlike:
        return f" ({trusted(one, None)}).{doubts} Not compared with {_called(other)}: {unlike}."
    two = Evidence(Spread(**match["top1"]), match["seeds"])
    text = compared(one.figure, two.figure, _called(other))
    return f"; {text} ({trusted(one, two)}).{doubts}"


def _conditions(row: Row) -> dict[str, Any]:
    """All that a figure was measured under; last.pt and the export hold the same weights."""
    name = row["checkpoint"]
    same = CHECKPOINTS[0] if name in CHECKPOINTS[:2] else name
    return {**row["settings"], "checkpoint": same}


def _differences(one: Row, two: Row) -> int:
    return sum(one.get(k) != two.get(k) for k in {*one, *two})


def _hedges(group: Group, other: Group | None) -> str:
    """Why the line before may say less than it seems to."""
    parts = []
    both = [group, other] if other else [group]
    if any(len(set(g.seeds)) < len(g.seeds) for g in both):
        parts.append("Two runs share a seed, so the spread is underestimated.")
    if other and (unlike := differences(group, other)):
        more = ", …" if len(unlike) > 4 else ""
        parts.append(f"The two also differ in {', '.join(unlike[:4])}{more}.")
    for g in both:
        for run in (run for run in g.counted if not run.finished):
            parts.append(f"{run.path.name} is not finished: epoch {run.epoch} of {run.epochs}.")
    return "".join(f" {part}" for part in parts)
