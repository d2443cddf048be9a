"""The figures of a group, each with the conditions that another must share to be compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgd_ssl.reporting.groups import Group, Spread, spread
from mgd_ssl.reporting.places import comparable
from mgd_ssl.reporting.results import USUAL, Result, images_given, images_in_words
from mgd_ssl.settings.options import BETWEEN

Row = Mapping[str, Any]
# Files of the same weights, the most relevant first; others come after them by name.
CHECKPOINTS = ("last.pt", "student.safetensors", "best.pt")
IN_TRAINING = " in training"
AGREEMENT = "agreement with the teacher"
SHOWN = tuple(dict.fromkeys(["features", "k", "T", "epochs", *USUAL]))  # of an evaluator's settings


@dataclass(frozen=True)
class Measure:
    """One figure of a group.

    Attributes:
        words: what was measured, as "kNN accuracy".
        text: how, as "kNN, moco, k 20, T 0.1, last.pt, 48 train / 24 val images".
        kind: the protocol; figures of two kinds are never compared.
        conditions: settings that the figure depends on, besides the network.
        figure: in percent.
        teacher: the teacher's figure, in percent; None if it is not known.
        chance: the figure of a network that knows nothing, in percent; None if it is not known.
    """

    words: str
    text: str
    kind: str
    conditions: Mapping[str, Any]
    figure: Spread
    teacher: float | None
    chance: float | None = None

    def differences(self, other: "Measure") -> list[str]:
        """Names of the conditions in which two figures of a kind differ."""
        one, two = comparable(self.conditions), comparable(other.conditions)
        return [name for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)]


def measures(group: Group, rows: Sequence[Row]) -> list[Measure]:
    """All figures of a group: its evaluators', the most relevant first, and that of training.

    Without any accuracy, its agreement with the teacher, which needs no labels.
    """
    ranked = sorted(rows, key=lambda row: _rank(group, row))
    return [*map(_evaluated, ranked), *_trained(group)] or [*_agreement(group)]


def chosen(found: Sequence[Measure]) -> list[Measure]:
    """The most relevant figure of each kind: kNN before linear, an evaluator's before training."""
    kinds = dict[str, Measure]()
    for measure in found:
        kinds.setdefault(measure.kind, measure)
    return sorted(kinds.values(), key=lambda m: (m.words, m.kind.endswith(IN_TRAINING), m.kind))


def alike(measure: Measure, others: Sequence[Measure]) -> Measure | None:
    """The figure that was measured as another one was."""
    same = (o for o in others if o.kind == measure.kind and not measure.differences(o))
    return next(same, None)


def unlike(measure: Measure, others: Sequence[Measure]) -> str:
    """How the nearest figure of a kind was measured otherwise; empty if there is none."""
    kind = [other for other in others if other.kind == measure.kind]
    if not kind:
        return ""
    nearest = min(kind, key=lambda other: len(measure.differences(other)))
    names = measure.differences(nearest)
    said = [
        f"{name} is {_said(nearest, name)} instead of {_said(measure, name)}" for name in names[:3]
    ]
    return ", ".join([*said, *("…" for _ in names[3:4])])


def as_measured(measure: Measure, result: Result) -> bool:
    """Whether published weights were measured as a figure was; their images may differ in size."""
    here, there = comparable(measure.conditions), comparable(result.settings)
    for name in ("size", "checkpoint"):
        here.pop(name, None)
        there.pop(name, None)
    return (measure.kind, here) == (result.protocol, there)


def _said(measure: Measure, name: str) -> object:
    """A condition in words; of a list its parts."""
    value = measure.conditions.get(name, USUAL.get(name))
    between = BETWEEN if name == "data" else " "
    return (between.join(map(str, value)) or None) if isinstance(value, list) else value


def _trained(group: Group) -> Iterator[Measure]:
    run = group.first
    if group.figure:
        words, text = run.command.words, f"{trained_metric(group)}, in training"
        teacher = group.teacher.mean if group.teacher else None
        kind = words + IN_TRAINING
        yield Measure(words, text, kind, run.measured_with, group.figure, teacher)


def _agreement(group: Group) -> Iterator[Measure]:
    runs = group.averaged
    found = spread((run.seed, run.last("health/neighbor_overlap")) for run in runs)
    if found:
        of, among = (group.first.last(f"health_{name}") for name in ("neighbors", "images"))
        text, chance = "in training", None
        if of and among:
            chance = round(100 * of / (among - 1), 1)
            text = f"{of:.0f} neighbors among {among:.0f} held-out images, {chance}% by chance"
        conditions = {**group.first.measured_with, "neighbors": of, "images": among}
        yield Measure(AGREEMENT, text, AGREEMENT, conditions, _percent(found), None, chance)


def _percent(share: Spread) -> Spread:
    std = None if share.std is None else 100 * share.std
    return Spread(100 * share.mean, std, share.seeds)


def trained_metric(group: Group) -> str:
    """The validation metric's name, for kNN with the k and T that it was measured at."""
    run, (k, t) = group.first, group.first.knn
    settings = f", k {k}, T {t}" if run.config["command"] == "pretrain" else ""
    return run.command.words + settings


def _evaluated(row: Row) -> Measure:
    """An evaluator's figure; last.pt and the export hold the same weights."""
    settings, name = row["settings"], row["checkpoint"]
    shown = [f"{k} {settings[k]}" for k in SHOWN if k in settings]
    counts = [f"{said} images"] if (said := images_in_words(settings)) else []
    same = CHECKPOINTS[0] if name in CHECKPOINTS[:2] else name
    return Measure(
        f"{row['protocol'].partition(',')[0]} accuracy",
        ", ".join([row["protocol"], *shown, name, *counts, *row["apart"], *row["repeated"]]),
        row["protocol"],
        {**settings, "checkpoint": same},
        Spread(row["top1"]["mean"], row["top1"]["std"], row["seeds"]),
        row["teacher_top1"],
    )


def _rank(group: Group, row: Row) -> tuple[Any, ...]:
    """Of the run's own images, of the most images, at its own k and T, of the most runs."""
    name, settings, (k, t) = row["checkpoint"], row["settings"], group.first.knn
    place = CHECKPOINTS.index(name) if name in CHECKPOINTS else len(CHECKPOINTS)
    images = [-count for count in images_given(settings)]
    others = settings.get("k", k) != k, settings.get("T", t) != t
    larger = [-_number(settings.get(setting)) for setting in ("k", "epochs")]
    first = bool(row["apart"]), *images, *others, -row["top1"]["runs"]
    unusual = [setting in settings for setting in USUAL]
    return *first, place, name, *unusual, *larger, str(settings)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
