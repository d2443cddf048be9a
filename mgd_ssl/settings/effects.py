"""Options that would have no effect: refused by name, with what they need, in every command."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

Defaults = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Needs:
    """Options that are read only where something holds.

    Attributes:
        options: dotted names of settings; ``section.*`` is each of a section.
        holds: of the resolved settings.
        without: where they have no effect, as in "which has no effect …".
        remedy: what to say to give them one, as in "leave it out, or …"; empty where nothing does.
    """

    options: Sequence[str]
    holds: Callable[[Any], bool]
    without: str
    remedy: str = ""


def refuse_without_effect(
    said: Any, resolved: Any, rules: Sequence[Needs], defaults: Defaults | None = None
) -> None:
    """Refuse an option that was given and that nothing reads.

    An option counts as given where its value is not its default. A file of resolved settings
    names all that a run filled in: what a run would fill in anyway does not count, in a section
    where nothing is left open.

    Args:
        said: the settings as they were given.
        resolved: the same, with what was left open filled.
        rules: what options need.
        defaults: what fills a section.

    Raises:
        ValueError: names the option, its value, and what it needs.
    """
    for rule in rules:
        if rule.holds(resolved):
            continue
        for name in _expanded(rule.options, said):
            if _is_given(said, name, defaults or {}):
                raise ValueError(_refusal(rule, name, _value(said, name)))


def _expanded(options: Sequence[str], config: Any) -> list[str]:
    names: list[str] = []
    for option in options:
        section, _, name = option.rpartition(".")
        whole = fields(getattr(config, section)) if name == "*" else ()
        names += [f"{section}.{f.name}" for f in whole] or [option]
    return names


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def _is_given(said: Any, name: str, defaults: Defaults) -> bool:
    section, _, option = name.rpartition(".")
    holder = getattr(said, section) if section else said
    value = getattr(holder, option)
    if value == next(f.default for f in fields(holder) if f.name == option):
        return False
    filling = defaults.get(section, {})
    was_filled = all(getattr(holder, n) is not None for n in filling if n not in EXCLUSIVE)
    return not (was_filled and option in filling and value == filling[option])


# Of these a section holds one, so that the others are open even where a run has filled it.
EXCLUSIVE = ("mgd_loss_factor", "mgd_weight", "mgd_start")


def _refusal(rule: Needs, name: str, value: Any) -> str:
    option = name.rpartition(".")[2].replace("_", "-")
    if isinstance(value, bool):
        return f"got --{'' if value else 'no-'}{option}, which has no effect {_ending(rule)}"
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"{name.rpartition('.')[2]}: got --{option} {shown}, which has no effect {_ending(rule)}"


def _ending(rule: Needs) -> str:
    return f"{rule.without}; leave it out" + (f", or {rule.remedy}" if rule.remedy else "")


STEM_STRIDE = Needs(
    ["network.stem_stride"],
    lambda c: c.network.stem != "imagenet",
    "on the stem imagenet",
    "say --stem small",
)


def shared_rules(matched: Callable[[Any], bool], without: str, remedy: str) -> list[Needs]:
    """What the options of every training command need.

    Args:
        matched: whether a resolved run matches the teacher's maps.
        without: where it does not, in words.
        remedy: how to make it match them.
    """
    teachers = ("arch", "width", "stem", "stem_stride", "taps")
    maps = ("mgd.*", "network.taps", "teacher.teacher_taps")
    return [
        Needs(
            [f"teacher.teacher_{name}" for name in teachers],
            lambda c: c.teacher.teacher is not None,
            "without a teacher",
            "name one: --teacher",
        ),
        Needs(maps, matched, without, remedy),
        Needs(
            ["mgd.mgd_update_freq"],
            lambda c: c.mgd.mgd_adapter != "expand",
            "where channels are matched one to one, once",
            "say --mgd-adapter batch",
        ),
        Needs(
            ["mgd.mgd_fade"],
            lambda c: c.mgd.gain(c.optim.epochs) < 1,
            "where it begins at the end of the run or after it",
            "give earlier epochs",
        ),
        STEM_STRIDE,
        Needs(
            ["teacher.teacher_stem_stride"],
            lambda c: c.teacher.teacher_stem != "imagenet",
            "on the stem imagenet",
            "say --teacher-stem small",
        ),
        Needs(
            ["optim.momentum", "optim.nesterov"],
            lambda c: c.optim.optimizer == "sgd",
            "with --optimizer adamw",
            "say --optimizer sgd",
        ),
        Needs(
            ["optim.schedule"],
            lambda c: not c.optim.cos,
            "on the cosine schedule",
            "say --no-cos",
        ),
        Needs(
            ["optim.schedule"],
            lambda c: min(c.optim.schedule, default=0) < c.optim.epochs,
            "where the rate would drop after the last epoch",
            "give earlier epochs",
        ),
    ]
