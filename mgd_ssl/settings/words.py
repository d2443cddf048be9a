"""The words of a command line, before they are parsed."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional
from tyro.constructors import PrimitiveConstructorSpec

from mgd_ssl.settings.config_file import leaves, reader_of

HELP = ("-h", "--help")
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
}
FORMER_FLAGS = {
    "--no-matching": ["--mgd-weighing", "none"],
    "--aug-plus": ["--preset", "moco_v2"],
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
        known |= dict.fromkeys([f"--{option}", f"--no-{option}", *_aliases(hint)], name)
    return {known[option] for word in words if (option := option_name(word)) in known}


def _aliases(hint: Any) -> Sequence[str]:
    marks = getattr(hint, "__metadata__", ())
    return next((m.aliases for m in marks if getattr(m, "aliases", None)), ())


def lists_last(settings: Any, words: Sequence[str]) -> list[str]:
    """Move options that take several values behind all others.

    There each ends with its values: what does not read as one more stays before them, as DATA does
    in ``--knn-k 1 5 DATA``.
    """
    lists, kept, moved = _lists(settings), list[str](), list[str]()
    reader: PrimitiveConstructorSpec[Any] | None = None
    for word in words:
        if OPTION.match(word):
            reader = lists.get(option_name(word))
        elif reader and not _reads(reader, word):
            reader = None
        (moved if reader else kept).append(word)
    return kept + moved


def _lists(settings: Any) -> dict[str, PrimitiveConstructorSpec[Any]]:
    """Options that take any number of values."""
    named = {
        f"--{name.replace('_', '-')}": reader_of(hint)
        for name, hint in leaves(settings)
        if Positional not in getattr(hint, "__metadata__", ())
    }
    return {name: reader for name, reader in named.items() if reader.nargs == "*"}


def _reads(reader: PrimitiveConstructorSpec[Any], word: str) -> bool:
    try:
        reader.instance_from_str([word])
    except ValueError:
        return False
    return True
