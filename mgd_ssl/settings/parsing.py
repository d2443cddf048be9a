"""From the words of a command line, and a config file, to complete settings."""

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes

from mgd_ssl.objectives import OBJECTIVES
from mgd_ssl.objectives.objective import names_of
from mgd_ssl.settings.config_file import (
    as_given,
    checked,
    entries,
    leaves,
    overlay,
    read_config,
    require_own_words,
    withhold,
)
from mgd_ssl.settings.effects import refusal, refuse_without_effect, unread
from mgd_ssl.settings.implied import replaced_entries, without
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.options import places
from mgd_ssl.settings.other_names import refuse_other_names
from mgd_ssl.settings.settings import Settings
from mgd_ssl.settings.short_help import short_help
from mgd_ssl.settings.words import (
    HELP_ALL,
    asks_for_help,
    options_in,
    positionals_first,
    require_text,
    spelled_now,
    take_config,
    without_help,
)

T = TypeVar("T", bound=Settings)
COMPLETION = 'To complete options on Tab: eval "$(mgd-ssl --completion bash)" (or zsh, fish).'


def parse(config: type[T], prog: str, argv: Sequence[str] | None = None) -> T:
    """Read a command line; ``--config FILE`` is read as if it stood before the other words.

    The words are read twice: at first to see what was chosen, then over the recipe of that choice,
    so that ``--help`` shows the defaults that go with it. Unknown options end the program with the
    nearest known one named; those that other projects have, by `refuse_other_names`.

    Raises:
        ValueError: an option goes by another name here, a file is refused, a word is empty, a
            number NaN or infinite, options exclude each other or have no effect.
    """
    words, file = take_config(sys.argv[1:] if argv is None else argv)
    require_text(words)
    words = spelled_now(words)
    content, withheld = withhold(read_config(config, file)) if file else ({}, {})
    place = file or Path("config.yaml")

    def read(defaults: T, words: Sequence[str], quiet: bool = False) -> T:
        """The words over a file over defaults."""
        return _read(overlay(defaults, content, place), prog, words, quiet)

    widest, helps = config.widest(), asks_for_help(words)
    if not helps:
        refuse_other_names(widest, words)
    first = _read_for_help(read, widest, words) if helps else read(widest, words)
    said = _said(first, widest, words, content) if first else {}
    require_own_words(options_in(widest, words), withheld, place)
    told = config.told(said)
    replaced = _replaced_entries(
        config, overlay(widest, content, place), content, said, words, told
    )
    content = without(content, replaced)
    said = {name: value for name, value in said.items() if name not in replaced}
    defaults = config.recipe({**told, **said})
    if helps and HELP_ALL not in words:
        print(short_help(overlay(defaults, content, place), prog, _whose(config, said, defaults)))
        raise SystemExit(0)
    if helps:
        read(defaults, ["--help"])
    _refuse_other_objectives(defaults, said)
    return _accepted(read(defaults, words), said, told)


def complete(config: type[T], **said: Any) -> T:
    """Complete settings for some options, named as on the command line.

    Example:
        >>> complete(PretrainConfig, data=Path("images"), method="simreg", lr=0.1)

    Raises:
        ValueError: an option that the choice does not have, or as `parse` does.
    """
    if "data" in said:
        said["data"] = places(said["data"])
    hints = dict(leaves(config.widest()))
    said = {k: as_given(k, hints[k], v) if k in hints else v for k, v in said.items()}
    told = config.told(said)
    settings: T
    settings, left = _replaced(config.recipe({**told, **said}), said)
    if left:
        raise ValueError(
            f"{', '.join(sorted(left))}: no option of these settings, expected some of "
            f"{', '.join(sorted(_leaves(settings)))}"
        )
    return _accepted(settings, said, told)


def _accepted(settings: T, said: Mapping[str, Any], told: Mapping[str, Any]) -> T:
    """Settings that are in range, and of which every option that was said has an effect."""
    settings, recipe = checked(settings), type(settings).recipe
    settings.check()
    refuse_without_effect(
        settings, said, settings.rules(), lambda choice: recipe({**told, **choice})
    )
    return settings


def defaults_of(settings: T) -> T:
    """What the settings would be, had no option been given but those that decide on others."""
    return type(settings).recipe(_leaves(settings))


def _read(defaults: T, prog: str, words: Sequence[str], quiet: bool = False) -> T:
    unused = unread(defaults.rules())
    said = f"\n\nWithout effect in this command: {', '.join(unused)}." if unused else ""
    parsed: T = tyro.cli(
        type(defaults),
        prog=prog,
        description=f"{inspect.cleandoc(type(defaults).__doc__ or '')}{said}\n\n{COMPLETION}",
        args=positionals_first(defaults, words),
        default=defaults,
        config=(OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
        console_outputs=not quiet,
    )
    return parsed


def _read_for_help(read: Callable[..., T], widest: T, words: Sequence[str]) -> T | None:
    """The options among words that ask for help; None where they are not whole."""
    rest = without_help(words)
    for attempt in (rest, [*rest, "CHECKPOINT"]):  # which the help does not need
        with contextlib.suppress(SystemExit):
            return read(widest, attempt, quiet=True)
    return None


def _replaced_entries(
    config: type[Settings],
    filed: Settings,
    content: Mapping[str, Any],
    said: Mapping[str, Any],
    words: Sequence[str],
    told: Mapping[str, Any],
) -> set[str]:
    """Entries of a file that are the defaults of what the words choose anew."""
    values, own = _leaves(filed), options_in(filed, words)
    return replaced_entries(
        {name: values[name] for name in entries(content) if name in values},
        {name: value for name, value in said.items() if name in own},
        lambda choice: _leaves(config.recipe({**told, **choice})),
    )


def _whose(config: type[T], said: Mapping[str, Any], defaults: T) -> str:
    """What to know of the defaults where they are those of the embedded images."""
    if said.get("data") or not hasattr(defaults, "data"):
        return ""
    others = dataclasses.replace(config.recipe({**said, "data": (Path("DATA"),)}), data=())  # type: ignore[call-arg]
    if others == defaults:
        return ""
    return (
        "The defaults are those for the embedded images. To see those for your images, give DATA "
        "and your other options along with --help."
    )


def _said(
    settings: T, widest: T, words: Sequence[str], content: Mapping[str, Any]
) -> dict[str, Any]:
    """Option -> value of all that the words and the file name, DATA among them."""
    values = _leaves(checked(settings))
    names = {*options_in(widest, words), *entries(content)}
    names |= {name for name in ("data",) if values.get(name)}
    return {name: values[name] for name in names if name in values}


def _leaves(settings: Any) -> dict[str, Any]:
    """Option -> value, those of the sections too."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        found |= _leaves(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def _replaced(settings: Any, said: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """Settings with options replaced wherever they stand, and the names that are nowhere."""
    values, left = dict[str, Any](), set(said)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name], missed = _replaced(value, said)
            left &= missed
        elif field.name in said:
            values[field.name] = said[field.name]
            left.discard(field.name)
    return dataclasses.replace(settings, **values), left


def _refuse_other_objectives(settings: Any, said: Mapping[str, Any]) -> None:
    """Refuse an option that the chosen method's objective does not have."""
    own = getattr(settings, "objective", None)
    if own is None:
        return
    for name, value in said.items():
        owners = [n for n, m in METHODS.items() if name in names_of(OBJECTIVES[m.objective])]
        if owners and name not in names_of(type(own)):
            without = f"but with --method {' or '.join(owners)}"
            raise ValueError(refusal(name, value, without))
