"""Was it worth it: a sentence for each distilled group, and the best group's bars.

Only figures that were measured alike are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mgd_ssl.reporting.groups import Group, Spread, baseline_of, differences
from mgd_ssl.reporting.measures import (
    AGREEMENT,
    Measure,
    Row,
    alike,
    as_measured,
    chosen,
    measures,
    unlike,
)
from mgd_ssl.reporting.results import Result

Panel = dict[str, Any]
Pair = tuple[Measure, Measure]  # a group's figure, and its baseline's
NOISE = 1.0  # points that one seed may differ from another without a cause
ANSWERS = {  # with several seeds, with one
    "yes": ("Yes", "Probably"),
    "no": ("No", "Probably not"),
    "even": ("Not shown", "Not shown"),
}
GENERIC = ("last", "best", "student", "model", "checkpoints")  # names that say nothing


class Headline:
    """What a report says first.

    Args:
        groups: of the report.
        results: evaluators' figures by a group's name, as `summary.grouped_results` gives them.
        published: evaluators' figures of weights that others published.

    Attributes:
        ranked: distilled groups first, the best of them at the top.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        results: Mapping[str, Sequence[Row]],
        published: Sequence[Result] = (),
    ) -> None:
        self._groups, self._published = groups, published
        self._measures = {g.name: measures(g, results.get(g.name, ())) for g in groups}
        self.ranked = sorted(groups, key=self._place, reverse=True)

    def _place(self, group: Group) -> tuple[bool, bool, float]:
        found = [group.figure] if group.figure else []
        found += [measure.figure for measure in self._measures[group.name]]
        return group.role == "distilled", bool(found), sum(figure.mean for figure in found[:1])

    def verdict(self) -> list[dict[str, Any]]:
        """For each distilled "group" a "sentence", and "cautions": reasons to trust it less."""
        distilled = [group for group in self.ranked if group.role == "distilled"]
        if not distilled:
            cautions = [*_collapses(self.ranked)]
            return [{"group": None, "sentence": self._without_distilled(), "cautions": cautions}]
        return [
            {
                "group": group.name,
                "sentence": self._sentence(group),
                "cautions": [*self._cautions(group)],
            }
            for group in distilled
        ]

    def _without_distilled(self) -> str:
        text = "Not known: no run was distilled from a teacher."
        for group in self.ranked[:1]:
            for measure in self._measures[group.name][:1]:
                article = "an" if measure.words.startswith("a") else "a"
                text += (
                    f" {group.name} has {article} {measure.words} of {measure.figure.mean:.1f}%."
                )
        return text

    def _sentence(self, group: Group) -> str:
        found, baseline = chosen(self._measures[group.name]), baseline_of(group, self._groups)
        if not found:
            return (
                f"Not known: {group.name} was measured neither in training nor by an evaluator; "
                "run knn_eval.py or linear_eval.py on its checkpoint."
            )
        kept = _kept(found)
        end = f"{kept and f' {group.name} {kept}.'}"
        if baseline is None:
            return f"Not known: no student alone to compare {group.name} with.{end}"
        theirs = self._measures[baseline.name]
        pairs = _pairs(found, theirs)
        if not pairs:
            how = next(filter(None, (unlike(measure, theirs) for measure in found)), "")
            return (
                f"Not known: {described(baseline)}, was not measured as {group.name} was"
                f"{how and f': {how}'}.{end}"
            )
        return (
            f"{_against(baseline, pairs)}, {group.name} is "
            f"{_listed([_apart(*pair) for pair in pairs])}{kept and f'; it {kept}'} "
            f"({_seeds(*pairs[0])})."
        )

    def _cautions(self, group: Group) -> Iterator[str]:
        baseline = baseline_of(group, self._groups)
        both = [group, baseline] if baseline else [group]
        yield from _collapses(both)
        if any(len(set(g.seeds)) < len(g.seeds) for g in both):
            yield "Two runs share a seed, so the spread is underestimated."
        if baseline and (names := differences(group, baseline)):
            more = ", …" if len(names) > 4 else ""
            yield f"The two groups also differ in {', '.join(names[:4])}{more}."
        for run in (run for g in both for run in g.averaged if not run.finished):
            yield f"{run.path.name} is not finished: epoch {run.epoch} of {run.epochs}."
        k, t = group.first.knn
        for measure in chosen(self._measures[group.name]):
            default = group.figure or f", k {k}, T {t}," in measure.text
            if "k" in measure.conditions and not default:
                yield f"kNN at the default k {k}, T {t} was not measured."

    def panels(self) -> list[Panel]:
        """The figures of all groups, for each way in which the best group was measured.

        Returns:
            For each its "words" and "conditions", its "bars", the "teacher" if there is one alone,
            "chance" if it is known, and "apart", the groups that were not measured alike.
        """
        found = [self._panel(measure) for measure in chosen(self._measures[self.ranked[0].name])]
        return [panel for panel in found if not any(_repeats(panel, other) for other in found)]

    def _panel(self, measure: Measure) -> Panel:
        """Teachers first, then students, published weights and those without a teacher."""
        pairs = [(group, alike(measure, self._measures[group.name])) for group in self._groups]
        found = [(group, same) for group, same in pairs if same]
        own = [_bar(group.name, group.role, same.figure) for group, same in found]
        others = [
            _bar(result.checkpoint, "published", Spread(result.top1, None, (0,)))
            for result in self._published
            if as_measured(measure, result)
        ]
        teachers = {_teacher_of(g): m.teacher for g, m in found if m.teacher is not None}
        named = "teacher {}" if len(teachers) > 1 else "teacher"
        bars = [
            _bar(named.format(name), "teacher", Spread(figure, None, (0,)))
            for name, figure in teachers.items()
        ]
        order = ("teacher", "distilled", "published", "alone", "baseline")
        bars += own + others
        bars.sort(key=lambda bar: (order.index(bar["role"]), -bar["mean"]))
        return {
            "words": measure.words,
            "conditions": measure.text,
            "teacher": bars[0]["mean"] if len(teachers) == 1 else None,
            "chance": measure.chance,
            "bars": bars,
            "apart": [group.name for group, same in pairs if not same],
        }


def _collapses(groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        runs = [run for run in group.averaged if run.collapse]
        if runs:
            names = _listed([f"{run.path.name} ({run.collapse})" for run in runs])
            when = "at the end of training" if runs[0].finished else "when last measured"
            yield f"The features of {names} had collapsed {when}."


def described(baseline: Group) -> str:
    """A baseline in words."""
    if not baseline.has_teacher:
        return f"{baseline.name}, trained without a teacher"
    return f"the baseline {baseline.name}"


def _repeats(panel: Panel, other: Panel) -> bool:
    """Whether a panel of training says nothing that an evaluator's does not."""
    names, others = ({bar["name"] for bar in p["bars"]} for p in (panel, other))
    trained = panel["conditions"].endswith("in training")
    return trained and panel is not other and panel["words"] == other["words"] and names <= others


def _bar(name: str, role: str, figure: Spread) -> dict[str, Any]:
    std = None if figure.std is None else round(figure.std, 2)
    seeds = len(set(figure.seeds))
    return {"name": name, "role": role, "mean": round(figure.mean, 2), "std": std, "seeds": seeds}


def _teacher_of(group: Group) -> str:
    """A teacher's name: its file's, or its run's where every run has such a file."""
    path = PurePath(str(group.first.setting("teacher.teacher")))
    names = [path.stem, *(parent.name for parent in path.parents)]
    return next((name for name in names if name and name not in GENERIC), path.name)


def _pairs(found: Sequence[Measure], theirs: Sequence[Measure]) -> list[Pair]:
    """Figures that were measured alike, one for each of what is measured."""
    pairs = [(measure, alike(measure, theirs)) for measure in found]
    first = dict[str, Pair]()
    for mine, other in pairs:
        if other:
            first.setdefault(mine.words, (mine, other))
    return list(first.values())


def _answer(pairs: Sequence[Pair]) -> str:
    outcomes = {_outcome(*pair) for pair in pairs}
    single = any(len(set(measure.figure.seeds)) == 1 for pair in pairs for measure in pair)
    return ANSWERS[outcomes.pop()][single] if len(outcomes) == 1 else "In part"


def _against(baseline: Group, pairs: Sequence[Pair]) -> str:
    """The answer, and what it is given against; a baseline with a teacher allows none."""
    if baseline.has_teacher:
        return (
            f"Not known: the baseline {baseline.name} has a teacher too, so this does not say "
            f"whether the teacher was worth it; against {baseline.name}"
        )
    return f"{_answer(pairs)}: against {described(baseline)}"


def _outcome(mine: Measure, theirs: Measure) -> str:
    points = mine.figure.mean - theirs.figure.mean
    if abs(points) <= _noise(mine, theirs):
        return "even"
    return "yes" if points > 0 else "no"


def _noise(mine: Measure, theirs: Measure) -> float:
    """What two figures may differ by without a cause: the spread, or a point of one seed."""
    both = (mine.figure, theirs.figure)
    single = any(len(set(figure.seeds)) == 1 for figure in both)
    return max(*(figure.std or 0.0 for figure in both), NOISE if single else 0.0)


def _apart(mine: Measure, theirs: Measure) -> str:
    points = round(mine.figure.mean - theirs.figure.mean, 1)
    if points == 0:
        return f"level in {mine.words}"
    text = f"{abs(points):.1f} points {'higher' if points > 0 else 'lower'} in {mine.words}"
    if _outcome(mine, theirs) == "even":
        text += f", within the noise of {_noise(mine, theirs):.1f}"
    return text


def _kept(found: Sequence[Measure]) -> str:
    """As ``keeps 97.8% of the teacher's kNN accuracy and 95.1% of its linear accuracy``.

    Where no accuracy is known, the share of neighbors that the teacher has too.
    """
    known = dict[str, float]()
    for one in found:
        if one.teacher:
            known.setdefault(one.words, 100 * one.figure.mean / one.teacher)
    shares = [f"{share:.1f}% of its {words}" for words, share in known.items()]
    if shares:
        return f"keeps {_listed(shares)}".replace("its", "the teacher's", 1)
    shares = [
        f"shares {one.figure.mean:.1f}% of its nearest neighbors with the teacher ({one.text})"
        for one in found
        if one.kind == AGREEMENT
    ]
    return "".join(shares)


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def _seeds(mine: Measure, theirs: Measure) -> str:
    counts = (len(set(measure.figure.seeds)) for measure in (mine, theirs))
    one, two = (f"{count} seeds" if count > 1 else "one seed" for count in counts)
    return f"{one} each" if one == two else f"{one} against {two}"
