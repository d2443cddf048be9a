"""The words of a command line, before they are parsed."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tyro.conf import Positional
from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo

from mgd_ssl.settings.config_file import leaves, reader_of

HELP_ALL = "--help-all"
HELP = ("-h", "--help", HELP_ALL)
OPTION = re.compile(r"--?[A-Za-z]")


def take_config(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """The words without ``--config FILE`` or ``--config=FILE``, and the file.

    Raises:
        ValueError: no file stands there, or two do.
    """
    rest, files, ahead = list[str](), list[str](), iter(words)
    for word in ahead:
        name, mark, value = word.partition("=")
        if name == "--config":
            files.append(value if mark else next(ahead, ""))
        else:
            rest.append(word)
    if len(files) > 1:
        raise ValueError(f"config: got {' and '.join(files)}, expected one file")
    if files and (not files[0] or OPTION.match(files[0])):
        raise ValueError("config: no file given, expected --config FILE")
    return rest, Path(files[0]).expanduser() if files else None


def require_text(words: Sequence[str]) -> None:
    """Refuse an empty word: as a path it would mean the current directory.

    Raises:
        ValueError: says after which word it stands.
    """
    for before, word in zip(["", *words], words, strict=False):
        if not word or (OPTION.match(word) and word.endswith("=")):
            place = word.rstrip("=") or before
            raise ValueError(
                f"got nothing{f' after {place}' if place else ''}, expected a value; look whether "
                "a variable of the shell that stands there is set"
            )


# Earlier spellings of an option, and the words that say the same now.
FORMER: dict[str, Callable[[str], list[str]]] = {
    "--mgd-loss-factor": lambda v: [*_weighing("published"), repr(1 / float(v))],
    "--mgd-weight": lambda v: [*_weighing("mean"), v],
    "--mgd-start": lambda v: [*_weighing("start"), v],
    "--neighbours": lambda v: ["--neighbors", v],
}
FORMER_FLAGS = {
    "--no-matching": ["--mgd-weighing", "none"],
    "--aug-plus": ["--preset", "moco_v2"],
    "--unlabelled": ["--unlabeled"],
}


def _weighing(how: str) -> list[str]:
    return ["--mgd-weighing", how, "--mgd-strength"]


def spelled_now(words: Sequence[str]) -> list[str]:
    """The words, with options of earlier versions as they are spelled now.

    Raises:
        ValueError: the value of one is no number above 0.
    """
    now, ahead = list[str](), iter(words)
    for word in ahead:
        name, mark, value = word.partition("=")
        name = option_name(name)
        if name in FORMER:
            value = value if mark else next(ahead, "")
            now += _renewed(name, value)
        else:
            now += FORMER_FLAGS.get(name, [word])
    return now


def _renewed(name: str, value: str) -> list[str]:
    try:
        if not float(value) > 0:
            raise ValueError
        return FORMER[name](value)
    except ValueError:
        option = name.removeprefix("--").replace("-", "_")
        raise ValueError(f"{option}: got {value or 'nothing'}, expected a number above 0") from None


def option_name(word: str) -> str:
    """An option as it is spelled in full: --knn-k, of --knn_k or --knn-k=5; else the word."""
    return word.partition("=")[0].replace("_", "-") if OPTION.match(word) else word


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether some word asks for help."""
    return any(word in HELP for word in words)


def without_help(words: Sequence[str]) -> list[str]:
    """The words without those that ask for help."""
    return [word for word in words if word not in HELP]


def options_in(settings: Any, words: Sequence[str]) -> set[str]:
    """Names of the options that stand among the words."""
    known = dict[str, str]()
    for name, hint in leaves(settings):
        option = name.replace("_", "-")
        known |= dict.fromkeys([f"--{option}", f"--no-{option}", *aliases(hint)], name)
    return {known[option] for word in words if (option := option_name(word)) in known}


def aliases(hint: Any) -> Sequence[str]:
    """Short and other spellings of an option."""
    marks = getattr(hint, "__metadata__", ())
    return next((m.aliases for m in marks if getattr(m, "aliases", None)), ())


def positionals_first(settings: Any, words: Sequence[str]) -> list[str]:
    """Move words that belong to no option, such as DATA, before all options.

    An option is followed by as many words as it takes. One that takes any number ends at a word
    that does not read as one more, as DATA does in ``--knn-k 1 5 DATA``.
    """
    options, first, rest = _takers(settings), list[str](), list[str]()
    takes: Callable[[str], bool] = _takes_none
    left = 0.0
    for word in words:
        if OPTION.match(word):
            takes, left = options.get(option_name(word), (_takes_all, float("inf")))
            left -= "=" in word
            rest.append(word)
        elif left > 0 and takes(word):
            left -= 1
            rest.append(word)
        else:
            left = 0
            first.append(word)
    return first + rest


Taker = tuple[Callable[[str], bool], float]


def _takers(settings: Any) -> dict[str, Taker]:
    """For each option, which words it takes, and the most that it takes."""
    found = dict[str, Taker]()
    for name, hint in leaves(settings):
        if Positional not in getattr(hint, "__metadata__", ()):
            option = name.replace("_", "-")
            found |= dict.fromkeys([f"--{option}", *aliases(hint)], _taker(hint))
            found[f"--no-{option}"] = _takes_none, 0
    return found


@cache
def _taker(hint: Any) -> Taker:
    reader = reader_of(hint)
    if PrimitiveTypeInfo.make(hint, set()).type is bool:
        return _takes_none, 0
    if isinstance(reader.nargs, int):
        return _takes_all, reader.nargs
    return (lambda word: _reads(reader, word)), float("inf")


def _takes_none(_: str) -> bool:
    return False


def _takes_all(_: str) -> bool:
    return True


def _reads(reader: PrimitiveConstructorSpec[Any], word: str) -> bool:
    try:
        reader.instance_from_str([word])
    except ValueError:
        return False
    return True
