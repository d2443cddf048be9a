"""Was it worth it: the figures of teacher, students and baselines side by side, and a sentence.

Only figures that were measured alike stand side by side.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mgd_ssl.reporting.groups import Group, Spread, baseline_of
from mgd_ssl.reporting.results import Result
from mgd_ssl.reporting.verdict import (
    Results,
    Row,
    cautions,
    conditions,
    described,
    described_row,
    headline_row,
    metric_words,
    ranked,
)

Bar = dict[str, Any]
Panel = dict[str, Any]
NOISE = 1.0  # points that one seed may differ from another without a cause
ANSWERS = {  # with several seeds, with one
    "yes": ("Yes", "Probably"),
    "no": ("No", "Probably not"),
    "even": ("Not shown", "Not shown"),
}
GENERIC = ("last", "best", "student", "model", "checkpoints")  # names that say nothing


def headline(
    groups: Sequence[Group], results: Results, published: Sequence[Result] = ()
) -> dict[str, Any]:
    """The first thing that a report says.

    Args:
        groups: of the report.
        results: evaluators' figures by a group's name.
        published: evaluators' figures of weights that others published.

    Returns:
        "best", the group that the sentence is about; "sentence", whether its teacher was worth it;
        "cautions", reasons to trust it less; and "panels": for each measurement its "words" and
        "conditions", its "bars", the "teacher" if there is one alone, and "apart", the groups that
        were not measured alike.
    """
    best = ranked(groups, results)[0]
    baseline = baseline_of(best, groups) if best.role == "distilled" else None
    panels = [*_panels(best, groups, results, published)]
    return {
        "best": best.name,
        "sentence": _sentence(_one_each(panels), best, baseline),
        "cautions": [*cautions(best, baseline)],
        "panels": panels,
    }


def _panels(
    best: Group, groups: Sequence[Group], results: Results, published: Sequence[Result]
) -> Iterator[Panel]:
    """One for each protocol of the evaluators, and one for training unless it would repeat that."""
    evaluated = [*_evaluated(best, groups, results, published)]
    trained = [group for group in groups if group.figure and _trained_alike(group, best)]
    teachers = {_teacher_of(g): g.teacher.mean for g in trained if g.teacher}
    students = {g.name: g.figure for g in trained if g.figure}
    words = best.first.command.words
    panel = _panel(words, f"{metric_words(best)}, in training", groups, teachers, students, {})
    repeated = [_names(panel) <= _names(p) for p in evaluated if p["words"] == words]
    if best.figure and not any(repeated):
        yield panel
    yield from evaluated


def _names(panel: Panel) -> set[str]:
    return {bar["name"] for bar in panel["bars"]}


def _trained_alike(group: Group, best: Group) -> bool:
    one, two = group.first, best.first
    return one.command == two.command and one.measured_with == two.measured_with


def _evaluated(
    best: Group, groups: Sequence[Group], results: Results, published: Sequence[Result]
) -> Iterator[Panel]:
    protocols: dict[str, list[Row]] = {}
    for row in results[best.name]:
        protocols.setdefault(row["protocol"], []).append(row)
    for protocol in sorted(protocols):
        row, _ = headline_row(protocols[protocol], best)
        alike = {g.name: _alike(row, results[g.name]) for g in groups}
        found = {name: other for name, other in alike.items() if other}
        known = [(_teacher_of(g), found[g.name]) for g in groups if g.name in found]
        teachers = {t: r["teacher_top1"] for t, r in known if r["teacher_top1"] is not None}
        students = {name: _top1(other) for name, other in found.items()}
        others = {r.checkpoint: Spread(r.top1, None, (0,)) for r in published if _same(row, r)}
        family, _, kind = protocol.partition(", ")
        single = sum(name.startswith(family) for name in protocols) == 1
        words = f"{family} accuracy" + ("" if single else f" ({kind})")
        yield _panel(words, described_row(row), groups, teachers, students, others)


def _alike(row: Row, rows: Sequence[Row]) -> Row | None:
    """The row that was measured as another one was."""
    wanted = row["protocol"], conditions(row)
    return next((r for r in rows if (r["protocol"], conditions(r)) == wanted), None)


def _same(row: Row, result: Result) -> bool:
    """Whether published weights were measured as a row was; their images may differ in size."""
    here, there = dict(row["settings"]), dict(result.settings)
    here.pop("size", None)
    there.pop("size", None)
    return (row["protocol"], here) == (result.protocol, there)


def _top1(row: Row) -> Spread:
    return Spread(row["top1"]["mean"], row["top1"]["std"], row["seeds"])


def _panel(
    words: str,
    conditions: str,
    groups: Sequence[Group],
    teachers: Mapping[str, float],
    students: Mapping[str, Spread],
    published: Mapping[str, Spread],
) -> Panel:
    """Teachers first, then students, published weights and those without a teacher."""
    several = len(teachers) > 1
    bars = [
        _bar(f"teacher {name}" if several else "teacher", "teacher", Spread(figure, None, (0,)))
        for name, figure in teachers.items()
    ]
    bars.sort(key=lambda bar: -bar["mean"])
    own = [_bar(g.name, g.role, students[g.name]) for g in groups if g.name in students]
    own.sort(key=lambda bar: (bar["role"] != "distilled", -bar["mean"]))
    others = [_bar(name, "published", figure) for name, figure in published.items()]
    place = sum(bar["role"] == "distilled" for bar in own)
    return {
        "words": words,
        "conditions": conditions,
        "teacher": None if several else next((bar["mean"] for bar in bars), None),
        "bars": [*bars, *own[:place], *others, *own[place:]],
        "apart": [group.name for group in groups if group.name not in students],
    }


def _bar(name: str, role: str, figure: Spread) -> Bar:
    std = None if figure.std is None else round(figure.std, 2)
    seeds = len(set(figure.seeds))
    return {"name": name, "role": role, "mean": round(figure.mean, 2), "std": std, "seeds": seeds}


def _teacher_of(group: Group) -> str:
    """A teacher's name: its file's, or its run's where every run has such a file."""
    path = PurePath(str(group.first.setting("teacher.teacher")))
    names = [path.stem, *(parent.name for parent in path.parents)]
    return next((name for name in names if name and name not in GENERIC), path.name)


def _one_each(panels: Sequence[Panel]) -> list[Panel]:
    """One panel for each of what is measured, one with a teacher if there is one."""
    found: dict[str, Panel] = {}
    for panel in panels:
        earlier = found.get(panel["words"])
        if earlier is None or not any(bar["role"] == "teacher" for bar in earlier["bars"]):
            found[panel["words"]] = panel
    return list(found.values())


def _sentence(panels: Sequence[Panel], best: Group, baseline: Group | None) -> str:
    if best.role != "distilled":
        return "Not known: no run was distilled from a teacher."
    if not panels:
        return (
            f"Not known: {best.name} was measured neither in training nor by an evaluator; run "
            "knn_eval.py or linear_eval.py on its checkpoint."
        )
    bars = [{bar["name"]: bar for bar in panel["bars"]} for panel in panels]
    kept = _kept(best, panels, bars)
    if baseline is None:
        return (
            "Not known: none of these runs was trained without a teacher and otherwise alike."
            f"{kept and f' {best.name} {kept}.'}"
        )
    pairs = [
        (panel["words"], found[best.name], found[baseline.name])
        for panel, found in zip(panels, bars, strict=True)
        if baseline.name in found
    ]
    if not pairs:
        return f"Not known: {described(baseline)}, was not measured as {best.name} was."
    outcomes = {_outcome(mine, theirs) for _, mine, theirs in pairs}
    single = any(bar["seeds"] == 1 for _, *two in pairs for bar in two)
    answer = ANSWERS[outcomes.pop()][single] if len(outcomes) == 1 else "In part"
    apart = _listed([_apart(words, mine, theirs) for words, mine, theirs in pairs])
    return (
        f"{answer}: against {described(baseline)}, {best.name} is {apart}"
        f"{kept and f'; it {kept}'} ({_seeds(*pairs[0][1:])})."
    )


def _outcome(mine: Bar, theirs: Bar) -> str:
    points = mine["mean"] - theirs["mean"]
    if abs(points) <= _noise(mine, theirs):
        return "even"
    return "yes" if points > 0 else "no"


def _noise(mine: Bar, theirs: Bar) -> float:
    """What two figures may differ by without a cause: the spread, or a point of one seed."""
    single = min(mine["seeds"], theirs["seeds"]) == 1
    return max(mine["std"] or 0.0, theirs["std"] or 0.0, NOISE if single else 0.0)


def _apart(words: str, mine: Bar, theirs: Bar) -> str:
    points = round(mine["mean"] - theirs["mean"], 1)
    if points == 0:
        return f"level in {words}"
    text = f"{abs(points):.1f} points {'higher' if points > 0 else 'lower'} in {words}"
    if _outcome(mine, theirs) == "even":
        text += f", within the noise of {_noise(mine, theirs):.1f}"
    return text


def _kept(best: Group, panels: Sequence[Panel], bars: Sequence[Mapping[str, Bar]]) -> str:
    """As ``keeps 97.8% of the teacher's kNN accuracy and 95.1% of its linear accuracy``."""
    teacher = f"teacher {_teacher_of(best)}"
    shares = list[str]()
    for panel, found in zip(panels, bars, strict=True):
        whole = found.get("teacher") or found.get(teacher)
        if whole and whole["mean"]:
            share = 100 * found[best.name]["mean"] / whole["mean"]
            whose = "its" if shares else "the teacher's"
            shares.append(f"{share:.1f}% of {whose} {panel['words']}")
    return f"keeps {_listed(shares)}" if shares else ""


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def _seeds(mine: Bar, theirs: Bar) -> str:
    one, two = (f"{n} seeds" if n > 1 else "one seed" for n in (mine["seeds"], theirs["seeds"]))
    return f"{one} each" if one == two else f"{one} against {two}"
