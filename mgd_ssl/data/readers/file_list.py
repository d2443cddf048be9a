"""Lists of image files: one path a line, and a class in the second column where there is one."""

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.archives.entries import Entries, Table, joined, tabled
from mgd_ssl.data.archives.labels import Labels, read_labels, unsaid_labels
from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.folders import look_up
from mgd_ssl.data.formats import LISTS, extensions, printable
from mgd_ssl.data.parts import beside
from mgd_ssl.data.reader import Opener, Reader, Wanted

logger = logging.getLogger(__name__)
DELIMITED = {".csv": ",", ".tsv": "\t"}
MARKS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
Row = tuple[str, str | None]


class Listed(NamedTuple):
    """What a list says of its images.

    Attributes:
        names: their paths.
        table: with their labels.
        by_folders: whether these are the folders, as no second column says any.
    """

    names: list[str]
    table: Table
    by_folders: bool

    def labels(self, where: Path, train: Labels | None = None) -> Labels:
        """Labels of the images; folders are class names, even where they are called 1 and 2.

        Raises:
            ValueError: as of `read_labels`.
        """
        every = slice(None)
        return read_labels(str(where), self.table, every, train=train, as_names=self.by_folders)


class ListSource(FolderSource):
    """Image files that a list names.

    Args:
        file: the list, whose folder relative paths are relative to.
        table: the paths, labels and folders.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.
    """

    def __init__(self, file: Path, table: Table, names: Sequence[str], max_pixels: int | None):
        super().__init__(file.parent, list(names), max_pixels=max_pixels)
        self._folders, self._codes = table.folders, table.columns["folder"]
        self.name = str(file)

    def annotation_bytes(self, indices: NDArray[np.int64]) -> bytes:
        """The labels that the files' folders do not say."""
        if self.labels is None:
            return b""
        codes = self._codes[indices]
        return unsaid_labels(self.labels[indices], self.classes, self._folders, codes)


def find(path: Path) -> Opener | None:
    """A text or table file."""
    known = path.suffix.lower() in LISTS and path.is_file()
    return partial(_open, path) if known else None


def _open(path: Path, wanted: Wanted) -> ListSource:
    wanted.refuse_folders(f"the list {path}")
    file = beside(path, wanted.split)
    listed = _read(file)
    _check_there(file, listed.names)
    source = ListSource(file, listed.table, listed.names, wanted.max_pixels)
    try:
        train = _read(path).labels(path) if wanted.split == "val" else None
        found = listed.labels(file, train)
        source.labels, source.classes = found.labels, found.classes
    except ValueError:
        if wanted.labeled:
            raise
    return source


def _read(file: Path) -> Listed:
    """The paths of a list, and what it says of their classes: else their folders are the classes.

    Raises:
        ValueError: no path is in it.
    """
    rows = list(_rows(file))
    if not rows:
        raise ValueError(f"{file}: an empty list; expected the path of an image in each line.")
    names, labels = [name for name, _ in rows], [label for _, label in rows]
    several = [label for label in labels if label and "," in label]
    if several:
        logger.warning(
            "%s: %s of %s images have a class with a comma in it, such as %s: it is one class; "
            "several classes of an image are not read",
            *(file, f"{len(several):,}", f"{len(rows):,}", printable(several[0])),
        )
    by_folders = not any(labels)
    if by_folders:
        labels = [os.path.basename(os.path.dirname(name)) or None for name in names]
    nowhere = [0] * len(names)
    table = joined([tabled(Entries(names, nowhere, nowhere, labels))])
    return Listed(names, table, by_folders)


def _rows(file: Path) -> Iterator[Row]:
    """Paths, and what stands in the second column."""
    delimiter = DELIMITED.get(file.suffix.lower())
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        if delimiter is None:
            for line in lines:
                if line.strip():
                    yield _split(line.rstrip("\r\n"))
            return
        table = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for number, cells in enumerate(table):
                if not cells or not cells[0] or (number == 0 and _names_columns(file, cells[0])):
                    continue  # an empty line, or the names of the columns
                if any("\n" in cell for cell in cells[:2]):
                    raise csv.Error("a quote is closed on a later line than it is opened on")
                yield cells[0], (cells[1].strip() or None) if len(cells) > 1 else None
        except csv.Error as error:
            raise ValueError(
                f"{file}, line {table.line_num}: {error}; expected one image a line, and a closing "
                "quote for each opening one"
            ) from error


def _names_columns(file: Path, cell: str) -> bool:
    """Whether the first cell of a table names its column: no image, no path, and no file."""
    is_path = _is_image(cell) or "/" in cell
    return not is_path and not os.path.isfile(os.path.join(file.parent, cell))


def _split(line: str) -> Row:
    """A line's path, and its class behind a tab, or behind a space where a path ends before it."""
    name, mark, label = line.partition("\t")
    if not mark and not _is_image(line):
        before, space, after = line.rpartition(" ")
        if space and _is_image(before.rstrip()):
            name, label = before.rstrip(), after
    return name.strip(), label.strip() or None


def _is_image(name: str) -> bool:
    return name.lower().endswith(extensions())


def _check_there(file: Path, names: Sequence[str]) -> None:
    """Check that every file exists.

    Raises:
        ValueError: files that are not there.
    """
    missing, _ = look_up(file.parent, names)
    if missing:
        lost = set(missing)
        rows = sum(os.path.join(*os.path.split(name)) in lost for name in names)
        raise ValueError(
            f"{file}: {rows:,} of {len(names):,} files are not there, among them "
            f"{', '.join(map(printable, missing[:3]))}; expected paths that are absolute or "
            f"relative to {file.parent}. {_remedy(file, missing)}"
        )


def _remedy(file: Path, missing: Sequence[str]) -> str:
    """What helps where files are not there."""
    delimiter = DELIMITED.get(file.suffix.lower())
    expected = MARKS[delimiter] if delimiter else "a tab or a space"
    for mark, name in MARKS.items():
        if mark != delimiter and all(_ends_before(mark, path) for path in missing):
            return f"Between the columns stands {name}, expected {expected}."
    seconds = [label for _, label in _rows(file) if label]
    if seconds and all(map(_is_image, seconds)):
        return "The paths are in column 2; expected them in column 1, and the class in column 2."
    mend = "Mend the list, or move it."
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        cells = next(csv.reader(lines, delimiter=delimiter), []) if delimiter else []
    if not any(cells[:1]) or not _names_columns(file, cells[0]):
        return mend
    return f"Line 1, {printable(cells[0])}, was taken for the names of the columns. {mend}"


def _ends_before(mark: str, path: str) -> bool:
    """Whether an image's name ends before a mark."""
    name, found, _ = path.partition(mark)
    return bool(found) and _is_image(name)


READER = Reader("a list of image files (.txt, .csv)", find)
