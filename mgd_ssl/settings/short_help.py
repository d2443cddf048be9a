"""The short help of a command: the options that matter first, with their defaults, and an example.

``--help-all`` prints the parser's own help, with every option by group.
"""

import ast
import dataclasses
import functools
import inspect
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tyro.conf import Positional

from mgd_ssl.settings.config_file import leaves, reader_of
from mgd_ssl.settings.settings import Settings
from mgd_ssl.settings.words import HELP_ALL, aliases

WIDEST, NARROWEST = 100, 20  # columns
MORE = (
    f"{HELP_ALL} lists all {{}} options by group. --config FILE reads those of a run's config.yaml."
)
MARGIN, NARROW = 24, 60  # of the texts; below NARROW columns they stand under their option


@dataclass(frozen=True)
class Option:
    """An option as the help shows it.

    Attributes:
        head: its spellings and what it takes.
        text: its docstring.
        default: as the command line takes it; empty where there is none.
    """

    head: str
    text: str
    default: str = ""


def short_help(settings: Settings, prog: str, note: str = "") -> str:
    """The help of a command, which fits the terminal.

    Args:
        settings: the defaults.
        prog: name of the program.
        note: about the defaults, in a sentence.
    """
    width = max(min(shutil.get_terminal_size().columns, WIDEST), NARROWEST)
    every = sorted(leaves(settings), key=lambda leaf: not _is_positional(leaf[1]))
    options = [option_of(settings, name) for name in settings.MAIN or dict(every)]
    about = inspect.cleandoc(type(settings).__doc__ or "").split("\n\n")
    more = MORE.format(len(every)) if settings.MAIN else ""
    paragraphs = [
        *(_filled(text, width) for text in [_usage(settings, prog), *about]),
        "\n".join(line for option in options for line in _lines(option, width)),
        f"example:\n{_filled(settings.EXAMPLE, width, 2)}",
        _filled(" ".join([note, more]), width),
    ]
    return "\n\n".join(filter(None, paragraphs))


def option_of(settings: Settings, name: str) -> Option:
    """An option, as the help and the reference pages show it.

    Args:
        settings: the defaults.
        name: as in the settings, with underscores.
    """
    hint, value = dict(leaves(settings))[name], _value(settings, name)
    head = _head(name, hint, switch=value is False)
    return Option(head, text_of(settings, name), _spelled(name, hint, value))


def text_of(settings: Any, name: str) -> str:
    """The docstring of an option, on one line; empty where it has none."""
    owner = next(s for s in _sections(settings) if name in _own_names(s))
    for base in type(owner).__mro__:
        if name in inspect.get_annotations(base) and (text := _docstrings(base).get(name)):
            return text
    return ""


def _usage(settings: Settings, prog: str) -> str:
    words = [_head(name, hint) for name, hint in leaves(settings) if _is_positional(hint)]
    return " ".join(["usage:", prog, *words, "[OPTIONS]"])


def _head(name: str, hint: Any, switch: bool = False) -> str:
    form = reader_of(hint).metavar.replace("{None}|", "").replace("None,", "")
    if _is_positional(hint):
        return f"[{name.upper()} ...]" if reader_of(hint).nargs == "*" else name.upper()
    spellings = [*aliases(hint), f"--{name.replace('_', '-')}"]
    if hint is bool:
        return ", ".join(spellings if switch else [*spellings, f"--no-{name.replace('_', '-')}"])
    if reader_of(hint).nargs == "*":
        form = f"{form.strip('[]').split(' [')[0]} ..."
    return f"{', '.join(spellings)} {form}"


def _spelled(name: str, hint: Any, value: Any) -> str:
    """A default as the command line takes it; empty where there is none."""
    if value is None or value is False or value == ():
        return ""
    if hint is bool:
        return f"--{name.replace('_', '-')}"
    reader = reader_of(hint)
    return " ".join(reader.str_from_instance(value)) if reader.is_instance(value) else ""


def _is_positional(hint: Any) -> bool:
    return Positional in getattr(hint, "__metadata__", ())


def _lines(option: Option, width: int) -> list[str]:
    """The head, and the text with the default beside or below it."""
    about = f"{option.text} (default: {option.default})" if option.default else option.text
    if width < NARROW:
        return [
            *_filled(option.head, width).split("\n"),
            *_filled(about.strip(), width, 2).split("\n"),
        ]
    text = _filled(about.strip(), width, MARGIN).split("\n")
    head = f"  {option.head}"
    if len(head) > MARGIN - 2:
        return [*_filled(option.head, width, 2).split("\n"), *text]
    return [head.ljust(MARGIN) + text[0].lstrip(), *text[1:]]


def _filled(text: str, width: int, margin: int = 0) -> str:
    space = " " * margin
    return textwrap.fill(
        " ".join(text.split()),
        width,
        initial_indent=space,
        subsequent_indent=space,
        break_on_hyphens=False,
    )


def _sections(settings: Any) -> Iterator[Any]:
    """The settings and their sections."""
    yield settings
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _sections(value)


def _own_names(section: Any) -> set[str]:
    names = {f.name for f in dataclasses.fields(section)}
    return {n for n in names if not dataclasses.is_dataclass(getattr(section, n))}


def _value(settings: Any, name: str) -> Any:
    return next(getattr(s, name) for s in _sections(settings) if name in _own_names(s))


@functools.cache
def _docstrings(owner: type) -> dict[str, str]:
    """Field -> the string that stands after it in the source of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        before.target.id: " ".join(after.value.value.split())
        for before, after in pairwise(body.body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }
