"""Runs of the same settings but the seed, and what they say together."""

import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mgd_ssl.reporting.runs import Role, Run, Series

# Settings that do not affect the result.
FREE = ("command", "out", "resume", "overwrite", "print_freq", "save_every", "seed")
# What tells methods apart: a baseline may, indeed should, differ in these.
METHOD = (
    *("method", "teacher", "mgd", "moco", "objective", "kd"),
    "levels",
)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs.

    Attributes:
        mean: over the runs.
        std: with n-1 in the denominator; None of a single run.
        runs: how many.
    """

    mean: float
    std: float | None
    runs: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that are there; None where none is."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), std, len(known))


@dataclass(frozen=True)
class Group:
    """Runs of the same settings but the seed.

    Attributes:
        name: what their directories' names have in common.
        runs: in order of seed.
    """

    name: str
    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        """The run of the lowest seed, whose settings stand for all."""
        return self.runs[0]

    @property
    def role(self) -> Role:
        """Of every run."""
        return self.first.role

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, with repeats."""
        return [run.seed for run in self.runs]

    @property
    def counted(self) -> Sequence[Run]:
        """The runs whose last figures count: the finished ones, or all where none is."""
        return [run for run in self.runs if run.finished] or self.runs

    @cached_property
    def figure(self) -> Spread | None:
        """The validation figure at the end, in percent."""
        return spread(run.last(run.metric) for run in self.counted)

    @cached_property
    def teacher(self) -> Spread | None:
        """The teacher's, in percent."""
        return spread(run.teacher for run in self.counted)

    @cached_property
    def percent(self) -> Spread | None:
        """Per cent of the teacher's figure that each run reached."""
        return spread(next(reversed(run.percent.values()), None) for run in self.counted)

    @property
    def names(self) -> list[str]:
        """Metrics that any run has."""
        return list(dict.fromkeys(name for run in self.runs for name in run.names))

    def series(self, of: str | Callable[[Run], Series]) -> Series:
        """Epoch -> mean over the runs that have a metric, or what ``of`` reads, at that epoch."""
        each = [run.series(of) if isinstance(of, str) else of(run) for run in self.runs]
        epochs = sorted({epoch for series in each for epoch in series})
        return {e: statistics.fmean(s[e] for s in each if e in s) for e in epochs}


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs whose settings agree but for the seed; students first, baselines last."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.role, run.kind, bound_settings(run)], sort_keys=True, default=str)
        found.setdefault(key, []).append(run)
    groups: list[Group] = []
    for members in found.values():
        members.sort(key=lambda run: run.seed)
        groups.append(Group(_free_name(_name(members), groups), members))
    order: tuple[Role, ...] = ("distilled", "alone", "baseline")
    return sorted(groups, key=lambda group: order.index(group.role))


def bound_settings(run: Run) -> dict[str, Any]:
    """The settings that a run's figures depend on, the seed aside."""
    bound = {k: v for k, v in run.config.items() if k not in FREE}
    bound["device"] = run.setting("device.precision")
    loader = run.setting("loader") or {}
    return bound | {"loader": {k: v for k, v in loader.items() if k != "workers"}}


def baseline_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """What a group is compared with: the given baseline, else one without teacher like it.

    Of several, the best counts.
    """
    same = [g for g in groups if g.first.kind == group.first.kind and g is not group]
    given = [g for g in same if g.role == "baseline"]
    alike = [g for g in same if g.role == "alone" and not _different(group, g, METHOD)]
    return max(given or alike, key=lambda g: g.figure.mean if g.figure else -math.inf, default=None)


def differences(group: Group, other: Group) -> list[str]:
    """Settings, beside those of the method, in which two groups differ."""
    return _different(group, other, METHOD)


def _different(group: Group, other: Group, aside: Sequence[str]) -> list[str]:
    one, two = (_flat(bound_settings(g.first)) for g in (group, other))
    names = [k for k in dict.fromkeys([*one, *two]) if one.get(k) != two.get(k)]
    return [name for name in names if name.split(".")[0] not in aside]


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix: settings}
    parts = (_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in settings.items())
    return {k: v for part in parts for k, v in part.items()}


def _name(runs: Sequence[Run]) -> str:
    """The directory's name; of several runs, without the seed that it ends with."""
    names = [run.path.absolute().name for run in runs]
    if len(runs) == 1:
        return names[0]
    pairs = zip(runs, names, strict=True)
    bare = [_without_seed(name, run.seed) for run, name in pairs]
    if len(set(bare)) == 1:
        return bare[0] or runs[0].path.absolute().parent.name
    return f"{names[0]} and {len(runs) - 1} more"


def _without_seed(name: str, seed: int) -> str:
    return re.sub(rf"(?:[-_.](?:seed|s)?[-_.=]?|^seed[-_.=]?){seed}$", "", name)


def _free_name(name: str, groups: Sequence[Group]) -> str:
    taken = {group.name for group in groups}
    numbered = (name if i == 1 else f"{name} ({i})" for i in range(1, len(groups) + 2))
    return next(n for n in numbered if n not in taken)
