"""The images inside archives: where each begins, what it is called, what its label says."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.folders import is_unwanted

Ints = NDArray[np.int64]
DIGITS = 18  # of a label that is a number


@dataclass
class Entries:
    """The images of one archive, as lists of one item an image.

    Attributes:
        names: what the images are called.
        offsets: where in the archive each begins, in bytes.
        sizes: how long each is there, in bytes.
        labels: what the archive says of each, None where it says nothing.
        skipped: what was left out, counted by reason.
        more: further numbers, by name.
    """

    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    more: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """The images of one or several archives, as arrays.

    Attributes:
        columns: arrays of one number an image, by name; "text" holds the names one after the
            other, and "ends" where each of them ends there.
        labels: the different labels that "label" counts in; -1 is none.
        folders: the different folders of the names, that "folder" counts in.
    """

    columns: Mapping[str, NDArray[Any]]
    labels: list[str]
    folders: list[str]


def tabled(entries: Entries) -> Table:
    """Lists as arrays."""
    encoded = [os.fsencode(name) for name in entries.names]
    labels, label = _coded(entries.labels)
    folders, folder = _coded(os.path.dirname(name) for name in entries.names)
    columns: dict[str, NDArray[Any]] = {
        "text": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
        "offset": np.array(entries.offsets, np.int64),
        "size": np.array(entries.sizes, np.int64),
        "label": label,
        "folder": folder.astype(np.int32),
        **{name: np.array(values, np.int64) for name, values in entries.more.items()},
    }
    return Table(columns, labels, folders)


def _coded(words: Iterable[str | None]) -> tuple[list[str], Ints]:
    """Different words, and the number of each; -1 is None."""
    numbers: dict[str, int] = {}
    codes = [-1 if word is None else numbers.setdefault(word, len(numbers)) for word in words]
    return list(numbers), np.array(codes, np.int64)


def rows(table: Table, start: int, stop: int) -> Table:
    """Some of a table's images, one after the other."""
    columns = {k: column[start:stop] for k, column in table.columns.items() if k != "text"}
    begin, end = (int(table.columns["ends"][i - 1]) if i else 0 for i in (start, stop))
    columns["ends"] = columns["ends"] - begin
    columns["text"] = table.columns["text"][begin:end]
    return Table(columns, table.labels, table.folders)


def joined(tables: Sequence[Table]) -> Table:
    """The images of several tables, with sorted labels: numbers by value, else by letter."""
    labels, label = _merged([(t.labels, t.columns["label"]) for t in tables])
    folders, folder = _merged([(t.folders, t.columns["folder"]) for t in tables])
    lengths = [len(table.columns["text"]) for table in tables]
    begins = np.cumsum([0, *lengths[:-1]])
    columns = {
        name: np.concatenate([table.columns[name] for table in tables])
        for name in tables[0].columns
        if name not in ("ends", "label", "folder")
    }
    columns["ends"] = np.concatenate(
        [table.columns["ends"] + begin for table, begin in zip(tables, begins, strict=True)]
    )
    columns |= {"label": label, "folder": folder.astype(np.int32)}
    return Table(columns, labels, folders)


def _merged(parts: Sequence[tuple[list[str], NDArray[Any]]]) -> tuple[list[str], Ints]:
    """One sorted list of the words that are used, and the numbers of all parts in it."""
    used = [np.unique(codes[codes >= 0]) for _, codes in parts]
    present = {words[i] for (words, _), some in zip(parts, used, strict=True) for i in some}
    words = sorted(present, key=_order)
    number = {word: i for i, word in enumerate(words)}
    lists = {id(own): own for own, _ in parts}  # thousands of parts of an old index share one
    maps = {k: np.array([*(number.get(w, -1) for w in v), -1]) for k, v in lists.items()}
    return words, np.concatenate([maps[id(own)][codes] for own, codes in parts])


def _order(word: str) -> tuple[bool, int, str]:
    return (not is_number(word), int(word) if is_number(word) else 0, word)


def is_number(word: str) -> bool:
    """Whether a label is a whole number from 0 that int64 holds; any other word is a name."""
    return word.isdecimal() and len(word) <= DIGITS


def tidy_name(name: str) -> str | None:
    """A name within an archive without "./"; None for one that leads out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    leads_out = name.startswith("/") or ".." in parts or "\0" in name
    return None if leads_out or not parts else "/".join(parts)


def unwanted_part(name: str) -> str | None:
    """Why an image of this name is left out: it is hidden, or in a folder of junk; else None."""
    *folders, base = name.split("/")
    junk = next((folder for folder in folders if is_unwanted(folder)), None)
    if junk is not None:
        return f"{junk}/"
    return "hidden" if base.startswith(".") else None
