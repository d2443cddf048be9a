"""A run's config.yaml: a saved command line, each entry read as the option that it is."""

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mgd_ssl.settings.options import to_dict

T = TypeVar("T")
# What only a user's own command line may say: MODULE:FUNCTION is called, and a run is deleted.
OWN_WORDS: dict[str, Callable[[Any], bool]] = {
    "arch": lambda value: ":" in str(value),
    "teacher_arch": lambda value: ":" in str(value),
    "overwrite": lambda value: value is True,
}
MOST_SEED = 2**63 - 1  # torch's, NumPy's and this project's generators all take it
COMMAND = "command"  # the entry that says which command wrote a file
DATA = "data"  # the option that takes one place or several
READ = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")


class _Loader(yaml.SafeLoader):
    """Leaves numbers and dates as they are written, as a command line does; no key stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.MarkedYAMLError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag in READ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_config(config: type, path: Path) -> dict[str, Any]:
    """The entries of a file, sections as nested dicts, not yet held to their types.

    Raises:
        ValueError: the file holds no settings, or another command's.
    """
    if not path.is_file():
        raise ValueError(f"config: got {path}, which is no file; expected a run's config.yaml")
    try:
        content = yaml.load(path.read_bytes(), _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"config: {path} is no YAML: {error}") from error
    try:
        if not isinstance(content, dict):
            raise ValueError(f"got {_shown(content)}, expected settings, as optim: {{lr: 0.1}}")
        _check_command(config, content.pop(COMMAND, None))
    except ValueError as error:
        raise ValueError(f"config: {path}: {error}") from error
    return content


def overlay(settings: T, content: Mapping[str, Any], path: Path) -> T:
    """Settings with the entries of a file in their place, each as the command line would read it.

    Raises:
        ValueError: an entry that the settings do not have, or a value that the command line would
            refuse.
    """
    try:
        return _section(settings, content, "", list(_names(settings)))
    except ValueError as error:
        raise ValueError(f"config: {path}: {error}") from error


def entries(content: Mapping[str, Any]) -> Iterator[str]:
    """Names of the options in a file, without their sections."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from entries(value)
        else:
            yield str(name)


def saved(settings: Any) -> dict[str, Any]:
    """What config.yaml and a checkpoint hold of a command's settings."""
    return {COMMAND: command_of(type(settings)), **to_dict(settings)}


def command_of(config: type) -> str:
    """The command that a class of settings belongs to: pretrain, of PretrainConfig."""
    return config.__name__.removesuffix("Config").lower()


def _check_command(config: type, command: Any) -> None:
    if command not in (None, command_of(config)):
        raise ValueError(
            f"{COMMAND}: got settings of {_shown(command)}, expected those of "
            f"{command_of(config)!r}; give it to the command that wrote it"
        )


def withhold(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries without what a file may not choose, and that by its name."""
    kept, withheld = dict[str, Any](), dict[str, Any]()
    for name, value in content.items():
        if isinstance(value, dict):
            kept[name], below = withhold(value)
            withheld |= below
        elif name in OWN_WORDS and OWN_WORDS[name](value):
            withheld[name] = value
        else:
            kept[name] = value
    return kept, withheld


def require_own_words(said: Collection[str], withheld: Mapping[str, Any], path: Path) -> None:
    """Refuse to leave out what was withheld, unless the command line said it itself.

    Args:
        said: options of the command line.
        withheld: from `withhold`.
        path: the file.

    Raises:
        ValueError: names the words that say it.
    """
    for name, value in withheld.items():
        if name not in said:
            words = f"--{name.replace('_', '-')}" + (f" {value}" if value is not True else "")
            raise ValueError(
                f"config: {path}: {name}: got {_shown(value)}, expected none in a file, which may "
                f"neither choose code nor delete; if it is what you want, say {words}"
            )


def checked(settings: T) -> T:
    """The settings with ``~`` written out in every path.

    Raises:
        ValueError: a number is NaN or infinite, or the seed is out of range.
    """
    return mapped(settings, _check)


def paths(settings: object) -> list[tuple[str, Path]]:
    """The paths that settings name, each with its option."""
    found: list[tuple[str, Path]] = []

    def note(name: str, value: Any) -> Any:
        values = value if isinstance(value, tuple) else (value,)
        found.extend((name, path) for path in values if isinstance(path, Path))
        return value

    mapped(settings, note)
    return found


def mapped(settings: T, change: Callable[[str, Any], Any], name: str = "") -> T:
    """Settings with every value, of the sections too, changed."""
    if not dataclasses.is_dataclass(settings):
        return typing.cast(T, change(name, settings))
    names = [field.name for field in dataclasses.fields(settings)]
    now = {name: mapped(getattr(settings, name), change, name) for name in names}
    return dataclasses.replace(settings, **now)  # type: ignore[type-var]


def _check(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_check(name, v) for v in value)
    if name == "seed" and not 0 <= value <= MOST_SEED:
        raise ValueError(f"seed: got {value}, expected 0 to {MOST_SEED}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: got {value}, expected a finite number")
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError:  # ~NAME of no user is a name like others
        return value


def leaves(settings: Any) -> Iterator[tuple[str, Any]]:
    """Name and type of every option, those of the sections too, without their prefix."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        nested = dataclasses.is_dataclass(value)
        yield from leaves(value) if nested else [(field.name, hints[field.name])]


def as_given(name: str, hint: Any, value: Any) -> Any:
    """An option's value as the command line would make it, from one that a program gives.

    Raises:
        ValueError: the command line would refuse it.
    """
    sequence = isinstance(value, list | tuple)
    words = [str(v) for v in value] if sequence else value if value is None else _word(value)
    return _entry(None, hint, words, "", name, [])


def _word(value: Any) -> bool | str:
    return value if isinstance(value, bool) else str(value)


def reader_of(hint: Any) -> PrimitiveConstructorSpec[Any]:
    """What makes a value of a type from the words of a command line."""
    found = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(hint, set()))
    assert isinstance(found, PrimitiveConstructorSpec)
    return found


def _names(settings: Any, section: str = "") -> Iterator[str]:
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{section}{field.name}"
        yield from _names(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]


def _section(settings: T, content: Any, place: str, known: list[str]) -> T:
    if not isinstance(content, Mapping):
        what = f"{place.rstrip('.')}: " if place else ""
        raise ValueError(f"{what}got {_shown(content)}, expected settings, as optim: {{lr: 0.1}}")
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for key in content:
        if key not in hints:
            raise ValueError(f"unknown entry {place}{key}, expected {_nearest(key, known)}")
    values = {
        key: _entry(getattr(settings, key), hints[key], value, place, key, known)
        for key, value in content.items()
    }
    try:
        return dataclasses.replace(settings, **values)  # type: ignore[type-var]
    except (TypeError, ValueError) as error:  # out of a range of its own
        raise ValueError(f"{place}{error}") from error


def _entry(now: Any, hint: Any, value: Any, place: str, key: str, known: list[str]) -> Any:
    if dataclasses.is_dataclass(now):
        return _section(now, value, f"{place}{key}.", known)
    reader = reader_of(hint)
    if key == DATA and not isinstance(value, list):  # one place needs no brackets
        value = [] if value is None else [value]
    try:
        made = _made(reader, hint, value)
    except (ValueError, IndexError) as error:
        wanted = _wanted(reader, value)
        raise ValueError(f"{place}{key}: got {_shown(value)}, expected {wanted}") from error
    return _check(f"{place}{key}", made)


def _made(reader: PrimitiveConstructorSpec[Any], hint: Any, value: Any) -> Any:
    """The value that the command line would make of the same words."""
    if value is None and reader.is_instance(None):
        return None
    words = value if isinstance(value, list) else [value]
    one = reader.nargs == 1
    flag = PrimitiveTypeInfo.make(hint, set()).type is bool
    if isinstance(value, list) == one or any(isinstance(word, bool) != flag for word in words):
        raise ValueError
    if not all(isinstance(word, str | bool) for word in words):
        raise ValueError
    if isinstance(reader.nargs, int) and len(words) != reader.nargs:
        raise ValueError
    return reader.instance_from_str([str(word) for word in words])


def _wanted(reader: PrimitiveConstructorSpec[Any], value: Any) -> str:
    """What a reader takes, in words, and the nearest choice where it has some."""
    null = " or null" if reader.is_instance(None) else ""
    form = reader.metavar.replace("None,", "").replace("{None}|", "")
    choices = re.search(r"\{(\w.*?)\}", form)
    many = {"*": "a list of ", 1: ""}.get(reader.nargs, f"a list of {reader.nargs} of ")
    if not choices:
        return f"{many}{re.findall('[A-Z]+', form)[0]}{null}"
    names = choices[1].split(",")
    texts = [str(v) for v in (value if isinstance(value, list) else [value])]
    near = [
        n for text in texts for n in difflib.get_close_matches(text, names, 1) if n not in texts
    ]
    return f"{many}{', '.join(names)}{null}" + (f"; nearest: {near[0]}" if near else "")


def _nearest(key: Any, known: list[str]) -> str:
    """The entry that was meant, where it stands; or all."""
    last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(str(key), last, n=1)
    return last[near[0]] if near else f"some of {', '.join(known)}"


def _shown(value: Any) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    )
