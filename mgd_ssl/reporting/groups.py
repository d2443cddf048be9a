"""Groups of runs that differ only in their seed, and their means."""

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mgd_ssl.reporting.places import comparable
from mgd_ssl.reporting.runs import Role, Run, Series

# Settings that do not affect the result.
WITHOUT_EFFECT = ("out", "resume", "overwrite", "print_freq", "save_every", "seed", "logger")
# Settings of the method: a run and its baseline are expected to differ in these.
METHOD_SETTINGS = {"method", "teacher", "mgd", "moco", "objective", "kd", "levels"}
METHOD_SETTINGS |= {"teacher_cache", "cache_views"}
# A method brings its own; a report says where they differ.
OF_RECIPE = {f"optim.{name}" for name in ("optimizer", "lr", "weight_decay", "momentum")}
# Follows from whether there is a teacher; the last figures do not depend on it.
FOLLOWS_METHOD = ("evaluation.best",)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs.

    Attributes:
        mean: over the runs.
        std: with n-1 in the denominator; None for a single run.
        seeds: of the runs, with repeats.
    """

    mean: float
    std: float | None
    seeds: Sequence[int]


def spread(values: Iterable[tuple[int, float | None]]) -> Spread | None:
    """Spread of pairs of seed and value, without those that are None; None if all are."""
    known = [(seed, value) for seed, value in values if value is not None]
    if not known:
        return None
    seeds, figures = zip(*known, strict=True)
    std = statistics.stdev(figures) if len(figures) > 1 else None
    return Spread(statistics.fmean(figures), std, seeds)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
        name: the common part of their directories' names.
        runs: in order of seed.
    """

    name: str
    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        """The run with the lowest seed, whose settings stand for all of them."""
        return self.runs[0]

    @property
    def role(self) -> Role:
        """The role of its runs."""
        return self.first.role

    @property
    def has_teacher(self) -> bool:
        """Whether its runs have a teacher, as a baseline too may have."""
        return bool(self.first.setting("teacher.teacher"))

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, with repeats."""
        return [run.seed for run in self.runs]

    @property
    def averaged(self) -> Sequence[Run]:
        """The runs whose last figures count: those that finished, or all if none did."""
        return [run for run in self.runs if run.finished] or self.runs

    @cached_property
    def figure(self) -> Spread | None:
        """The validation metric at the end, in percent."""
        return spread((run.seed, run.last(run.metric)) for run in self.averaged)

    @cached_property
    def teacher(self) -> Spread | None:
        """The teacher's figure, in percent."""
        return spread((run.seed, run.teacher) for run in self.averaged)

    @cached_property
    def percent(self) -> Spread | None:
        """The validation metric as a percentage of the teacher's."""
        return spread((run.seed, run.final_percent) for run in self.averaged)

    @property
    def names(self) -> list[str]:
        """Metrics of any of the runs."""
        return list(dict.fromkeys(name for run in self.runs for name in run.names))

    def series(self, name: str) -> Series:
        """Epoch -> mean of a metric over the runs that have it at that epoch."""
        return _mean_series([run.series(name) for run in self.runs])

    @property
    def percent_series(self) -> Series:
        """Epoch -> mean of the validation metric as a percentage of the teacher's."""
        return _mean_series([run.percent for run in self.runs])


def _mean_series(runs: Sequence[Series]) -> Series:
    epochs = sorted({epoch for series in runs for epoch in series})
    return {e: statistics.fmean(s[e] for s in runs if e in s) for e in epochs}


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs that differ only in their seed: students first, the best of them before others."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.role, comparable(compared_settings(run))], sort_keys=True)
        found.setdefault(key, []).append(run)
    groups: list[Group] = []
    for members in found.values():
        members.sort(key=lambda run: run.seed)
        groups.append(Group(_free_name(_name(members), groups), members))
    order: tuple[Role, ...] = ("distilled", "alone", "baseline")
    return sorted(groups, key=lambda group: (order.index(group.role), -_last(group)))


def _last(group: Group) -> float:
    return group.figure.mean if group.figure else -math.inf


def compared_settings(run: Run) -> dict[str, Any]:
    """The settings that affect a run's figures, except the seed."""
    settings = {k: v for k, v in run.config.items() if k not in WITHOUT_EFFECT}
    if settings.pop("device", None):
        settings["precision"] = run.setting("device.precision")
    if isinstance(loader := run.setting("loader"), Mapping):
        settings["loader"] = {k: v for k, v in loader.items() if k != "workers"}
    return settings


def baseline_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """The group to compare with: the best of the given baselines, those without a teacher first.

    If none was given, it is the best of the groups trained without a teacher and otherwise alike,
    but for the optimizer that a method brings.
    """
    same = [g for g in groups if g.first.command == group.first.command and g is not group]
    given = [g for g in same if g.role == "baseline"]
    alike = [g for g in same if g.role == "alone" and {*differences(group, g)} <= OF_RECIPE]
    alone = [g for g in given if not g.has_teacher]
    return max(alone or given or alike, key=_last, default=None)


def differences(group: Group, other: Group) -> list[str]:
    """Names of the settings in which two groups differ, except those of the method."""
    one, two = (comparable(compared_settings(g.first)) for g in (group, other))
    names = [k for k in dict.fromkeys([*one, *two]) if one.get(k) != two.get(k)]
    others = [name for name in names if name not in FOLLOWS_METHOD]
    return [name for name in others if name.split(".")[0] not in METHOD_SETTINGS]


def _name(runs: Sequence[Run]) -> str:
    """The directory's name; for several runs, without the seed at its end."""
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
