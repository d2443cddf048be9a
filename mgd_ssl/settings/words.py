"""The words of a command line, before they are parsed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional
from tyro.constructors import PrimitiveConstructorSpec

from mgd_ssl.settings.config_file import leaves, reader_of

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


def lists_last(config: type, words: Sequence[str]) -> list[str]:
    """Move options that take several values behind all others.

    There each ends with its values: what does not read as one more stays before them, as DATA does
    in ``--knn-k 1 5 DATA``.
    """
    lists, kept, moved = _lists(config), list[str](), list[str]()
    reader: PrimitiveConstructorSpec[Any] | None = None
    for word in words:
        if OPTION.match(word):
            reader = lists.get(word.partition("=")[0].replace("_", "-"))
        elif reader and not _reads(reader, word):
            reader = None
        (moved if reader else kept).append(word)
    return kept + moved


def _lists(config: type) -> dict[str, PrimitiveConstructorSpec[Any]]:
    """Options that take any number of values."""
    named = {
        f"--{name.replace('_', '-')}": reader_of(hint)
        for name, hint in leaves(config)
        if Positional not in getattr(hint, "__metadata__", ())
    }
    return {name: reader for name, reader in named.items() if reader.nargs == "*"}


def _reads(reader: PrimitiveConstructorSpec[Any], word: str) -> bool:
    try:
        reader.instance_from_str([word])
    except ValueError:
        return False
    return True
