"""Options that would have no effect: refused by name, with what they need, in every command."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Needs:
    """Options that are read only under a condition.

    Attributes:
        options: dotted names of settings; ``section.*`` is each of a section.
        holds: the condition, of the settings.
        without: where they have no effect, as in "which has no effect …".
        remedy: how to give them one, as in "leave it out, or …"; empty where nothing does.
    """

    options: Sequence[str]
    holds: Callable[[Any], bool]
    without: str
    remedy: str = ""


def never(_: Any) -> bool:
    """The condition of options that a command has, and never reads."""
    return False


def unread(rules: Sequence[Needs]) -> list[str]:
    """The options that a command never reads, as the command line spells them."""
    names = [name for rule in rules if rule.holds is never for name in rule.options]
    return [f"--{_last(name).replace('_', '-')}" for name in names]


def refuse_without_effect(
    settings: Any,
    said: Mapping[str, Any],
    rules: Sequence[Needs],
    recipe: Callable[[Mapping[str, Any]], Any],
) -> None:
    """Refuse an option that was given and that nothing reads.

    A value that is the default anyway is not refused: a run's config.yaml names all of them.

    Args:
        settings: of the command.
        said: option -> value, those that were given.
        rules: what options need.
        recipe: the defaults that go with what was given.

    Raises:
        ValueError: names the option, its value, and what it needs.
    """
    for rule in rules:
        if rule.holds(settings):
            continue
        names = [n for n in _expanded(rule.options, settings) if _last(n) in said]
        others = {k: v for k, v in said.items() if k not in map(_last, names)}
        for name in names:
            if (value := _value(settings, name)) != _value(recipe(others), name):
                raise ValueError(refusal(name, value, rule.without, rule.remedy))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


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


def refusal(name: str, value: Any, without: str, remedy: str = "") -> str:
    """The message of an option without effect."""
    last = _last(name)
    option = last.replace("_", "-")
    ending = f"{without}; leave it out" + (f", or {remedy}" if remedy else "")
    if isinstance(value, bool):
        return f"got --{'' if value else 'no-'}{option}, which has no effect {ending}"
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"{last}: got --{option} {shown}, which has no effect {ending}"
