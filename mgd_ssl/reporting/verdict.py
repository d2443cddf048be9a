"""What the numbers say, in plain words, and how far they can be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

from mgd_ssl.reporting.groups import Group, Spread, baseline_of, differences
from mgd_ssl.reporting.runs import FIGURES

Results = Mapping[str, Sequence[Mapping[str, Any]]]


def verdict(groups: Sequence[Group], results: Results) -> list[str]:
    """A line or more for each distilled group, the best first.

    Args:
        groups: of the report.
        results: evaluators' figures by a group's name, as `summary.grouped_results` gives them.
    """
    distilled = [group for group in groups if group.role == "distilled"]
    if not distilled:
        return [_without_distilled(groups)]
    ranked = sorted(distilled, key=lambda g: g.figure.mean if g.figure else -1.0, reverse=True)
    return [line for group in ranked for line in _lines(group, groups, results)]


def _without_distilled(groups: Sequence[Group]) -> str:
    best = max((g for g in groups if g.figure), key=lambda g: g.figure.mean, default=None)  # type: ignore[union-attr]
    if best is None or best.figure is None:
        return "No run was distilled from a teacher, and none has a validation figure yet."
    words = FIGURES[best.first.kind][1]
    return (
        f"No run was distilled from a teacher. {best.name} has a {words} of "
        f"{best.figure.mean:.1f} % ({trusted(best.figure, None)})."
    )


def _lines(group: Group, groups: Sequence[Group], results: Results) -> list[str]:
    other = baseline_of(group, groups)
    words = FIGURES[group.first.kind][1]
    lines = [_sentence(group, other, words)] if group.figure else []
    lines += _of_results(group, other, results)
    if not lines:
        return [f"{group.name}: nothing was measured, neither in training nor by an evaluator."]
    lines[-1] += _hedges(group, other)
    return lines


def _sentence(group: Group, other: Group | None, words: str) -> str:
    assert group.figure is not None
    base = other.figure if other else None
    if group.percent and group.teacher:
        text = (
            f"{group.name} reaches {group.percent.mean:.1f} % of the teacher's {words} "
            f"({group.figure.mean:.1f} of {group.teacher.mean:.1f} %)"
        )
    else:
        text = (
            f"{group.name} has a {words} of {group.figure.mean:.1f} %; the teacher's is not known"
        )
    if other and base:
        text += f"; {compared(group.figure, base)} {_called(other)}"
    return f"{text} ({trusted(group.figure, base)})."


def compared(one: Spread, two: Spread) -> str:
    """How far one figure is from another: "2.9 points above"."""
    points = round(one.mean - two.mean, 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def trusted(one: Spread, two: Spread | None) -> str:
    """What a figure, or a difference, rests on: "3 seeds each, spread 0.1"."""
    text = _plural(one.runs)
    if two:
        text += " each" if one.runs == two.runs else f" against {two.runs}"
    stds = [s.std for s in (one, two) if s and s.std is not None]
    if not stds:
        return text
    text += f", spread {max(stds):.1f}"
    within = two and abs(one.mean - two.mean) <= max(stds)
    return f"{text}, within which the difference is: none is shown" if within else text


def _plural(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _called(other: Group) -> str:
    if not other.first.setting("teacher.teacher"):
        return f"the student trained without a teacher, {other.name}"
    return f"the baseline {other.name}"


def _of_results(group: Group, other: Group | None, results: Results) -> list[str]:
    """A line for the linear probe, and one for kNN where training measured none."""
    lines = []
    for kind in ("linear",) if group.figure else ("kNN", "linear"):
        rows = [r for r in results.get(group.name, ()) if str(r["protocol"]).startswith(kind)]
        if not rows:
            continue
        row = rows[0]
        text = f"{group.name}, {row['protocol']}: {row['top1']['mean']:.1f} % top-1"
        if row["percent_of_teacher"]:
            text += f", {row['percent_of_teacher']['mean']:.1f} % of the teacher's"
        match = _match(row, results.get(other.name, ())) if other else None
        one, two = Spread(**row["top1"]), Spread(**match["top1"]) if match else None
        if two and other:
            text += f"; {compared(one, two)} {_called(other)}"
        lines.append(f"{text} ({trusted(one, two)}).")
    return lines


def _match(row: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    keys = ("protocol", "settings")
    return next((r for r in others if all(r[k] == row[k] for k in keys)), None)


def _hedges(group: Group, other: Group | None) -> str:
    """Why the line before may say less than it seems to."""
    parts = []
    both = [group, other] if other else [group]
    if any(len(set(g.seeds)) == 1 for g in both):
        parts.append("With one seed no spread is known: a small difference may be chance.")
    if any(len(set(g.seeds)) < len(g.seeds) for g in both):
        parts.append("Some runs are of one seed twice: the spread is too small.")
    if other and (unlike := differences(group, other)):
        more = ", …" if len(unlike) > 4 else ""
        parts.append(f"The two also differ in {', '.join(unlike[:4])}{more}.")
    for g in both:
        for run in (run for run in g.counted if not run.finished):
            parts.append(f"{run.path.name} is not finished: epoch {run.epoch} of {run.epochs}.")
    return "".join(f" {part}" for part in parts)
