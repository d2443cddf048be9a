"""Reference pages of the commands, written from their settings."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgd_ssl.commands.main import COMMANDS
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.settings.settings import Settings
from mgd_ssl.settings.short_help import option_of

FOLDER = "reference/commands"
SCRIPTS = {"pretrain": "pretrain.py", "knn-eval": "knn_eval.py", "linear-eval": "linear_eval.py"}
EXAMPLES = {"data": (Path("DATA"),), "teacher": Path("T")}  # whose defaults the tables show
PAGE = re.compile(r"docs/([\w/]+\.md)")  # which the texts of options name
INDEX = """# Commands

Every command is a word after `mgd-ssl`; `python -m mgd_ssl` is the same. Three have a script of
their own. These pages are written from the settings of the commands. `--help` shows the main
options with the defaults of *your* command line, `--help-all` all of them.

| command | what it does |
|---|---|
{rows}

- An option that does not exist, or that would have no effect, is refused; the message names what
  was probably meant.
- `--config FILE` takes the options of a run's `config.yaml`; options beside it take precedence.
- Numbers given as several words end at the next option: `--knn-k 1 5 20`.
- Boolean options have a form that turns them off: `--exif`, `--no-exif`.
- `MGD_SSL_TRACEBACK=1` in the environment shows the traceback of an error.
"""
DEFAULTS = """
Where a default depends on other options, the table shows that for DATA {teacher}of your own."""
BY_METHOD = """
## Defaults of each method

With `--teacher`, except for methods that need none. All other defaults are those above. –: the
method has no such option.

| option | {names} |
|---|{lines}|
{rows}
"""


def command_pages() -> dict[str, str]:
    """Path of a page in docs/ -> its Markdown."""
    pages = {f"{FOLDER}/{name}.md": _page(name, what) for name, what in COMMANDS.items()}
    rows = [f"| [`{name}`]({name}.md) | {what} |" for name, what in COMMANDS.items()]
    return {f"{FOLDER}/index.md": INDEX.format(rows="\n".join(rows)), **pages}


def config_of(command: str) -> type[Settings]:
    """The settings of a command: the class that its module parses."""
    module = importlib.import_module(f"mgd_ssl.commands.{command.replace('-', '_')}")
    return next(
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Settings) and value is not Settings
    )


def _page(name: str, what: str) -> str:
    config = config_of(name)
    settings = _widest(config)
    has = {f.name for f in dataclasses.fields(config)}
    script = f" (`python {SCRIPTS[name]}`)" if name in SCRIPTS else ""
    parts = [
        f"# {name}",
        f"`mgd-ssl {name}`{script}: {what}.",
        inspect.cleandoc(config.__doc__ or ""),
        f"```\n{config.EXAMPLE}\n```",
        DEFAULTS.format(teacher="and a teacher " if "teacher" in has else "").strip()
        if "data" in has
        else "",
        *_tables(settings),
        _by_method() if config is PretrainConfig else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _widest(config: type[Settings]) -> Settings:
    """The defaults for a user's own data, with the options of every choice."""
    settings = config.recipe(EXAMPLES)
    widest = config.widest()
    if not hasattr(widest, "objective"):
        return settings
    return dataclasses.replace(settings, objective=widest.objective)  # type: ignore[call-arg]


def _tables(settings: Settings) -> Iterator[str]:
    """A table of the options for each section of the settings."""
    for title, section in _sections(settings):
        names = [
            field.name
            for field in dataclasses.fields(section)
            if not dataclasses.is_dataclass(getattr(section, field.name))
        ]
        if names:
            rows = [_row(settings, name) for name in names]
            yield "\n".join(
                [f"## {title}", "", "| option | meaning | default |", "|---|---|---|", *rows]
            )


def _sections(settings: Any, title: str = "Options") -> Iterator[tuple[str, Any]]:
    yield title, settings
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            first = inspect.cleandoc(type(value).__doc__ or field.name).split("\n\n")[0]
            yield from _sections(value, " ".join(first.split()).partition(". ")[0].rstrip("."))


def _row(settings: Settings, name: str) -> str:
    option = option_of(settings, name)
    default = f"`{option.default}`" if option.default and not option.head.startswith("[") else ""
    text = PAGE.sub(r"[\1](../../\1)", option.text)
    return "| " + " | ".join(map(_cell, (f"`{option.head}`", text, default))) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _by_method() -> str:
    """The options whose defaults differ between the methods."""
    defaults = {name: _values(_of_method(name)) for name in METHODS}
    usual = defaults["mgd-plus"]
    options = [
        option
        for option in usual
        if option not in ("method", "out", "teacher")
        and len({values.get(option) for values in defaults.values()}) > 1
    ]
    rows = [
        f"| `--{option.replace('_', '-')}` | "
        + " | ".join(_cell(defaults[name].get(option, "–")) for name in METHODS)
        + " |"
        for option in options
    ]
    names = " | ".join(f"`{name}`" for name in METHODS)
    return BY_METHOD.format(
        names=names, lines="|".join(["---"] * len(METHODS)), rows="\n".join(rows)
    )


def _of_method(name: str) -> Settings:
    teacher = EXAMPLES if METHODS[name].needs_teacher else {"data": EXAMPLES["data"]}
    return PretrainConfig.recipe({**teacher, "method": name})


def _values(settings: Settings) -> dict[str, str]:
    """Option -> its default as the command line takes it."""
    names = [
        field.name
        for _, section in _sections(settings)
        for field in dataclasses.fields(section)
        if not dataclasses.is_dataclass(getattr(section, field.name))
    ]
    return {name: option_of(settings, name).default for name in names}
