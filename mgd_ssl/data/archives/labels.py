"""Classes and labels of images inside archives: from what stands beside them, or their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.archives.entries import Table, is_number

Rows = NDArray[np.int64] | slice
ALL = slice(None)
SAME_KIND = "expected the same kind in both. Write the labels of one part like the other's."


@dataclass(frozen=True)
class Labels:
    """Labels (N,) of images, and the names of the classes where they are known."""

    labels: NDArray[np.int64]
    classes: list[str] | None


def read_labels(
    where: str,
    table: Table,
    rows: Rows,
    prefix: str = "",
    train: Labels | None = None,
    as_names: bool = False,
) -> Labels:
    """Labels of some of a table's images.

    They are what the archive says of each image; where it says nothing of any, the folders that
    the images are in. Names become classes in sorted order, numbers are labels as they are.

    Args:
        where: the images, for messages.
        table: of the archives.
        rows: which of its images.
        prefix: what the images' folders begin with, ending with "/", and no class is.
        train: labels of the training images, where these are others.
        as_names: take numbers for names too.

    Raises:
        ValueError: no labels, some images without one, numbers among names, numbers where the
            training images have names or the other way round, or a class that these lack.
    """
    column = table.columns["label"]
    codes = (
        column if isinstance(rows, slice) and rows == ALL else column[rows]
    )  # the column itself, which workers map
    unlabeled = int((codes < 0).sum())
    if unlabeled == len(codes):
        return _by_names(where, *_folder_classes(where, table, rows, prefix), train)
    if unlabeled:
        raise ValueError(
            f"{where}: {unlabeled:,} of {len(codes):,} images have no label; expected one for "
            "each, or none. Add the labels, or use a command without labels."
        )
    if as_names or not _are_numbers(where, table.labels):
        return _by_names(where, table.labels, codes, train)
    return _by_numbers(where, table.labels, codes, train)


def _are_numbers(where: str, words: list[str]) -> bool:
    """Whether labels are numbers; else they are names."""
    numbers = [is_number(word) for word in words]
    if any(numbers) and not all(numbers):
        mixed = f"{words[numbers.index(True)]} and {words[numbers.index(False)]}"
        raise ValueError(
            f"{where}: labels are numbers and names, such as {mixed}; expected one of both. Write "
            "the labels anew."
        )
    return all(numbers)


def _folder_classes(
    where: str, table: Table, rows: Rows, prefix: str
) -> tuple[list[str], NDArray[np.int64]]:
    """First folders of the images below ``prefix``, sorted, and each image's number in them."""
    codes = table.columns["folder"][rows]
    first = [_first(folder, prefix) for folder in table.folders]
    present = sorted({first[code] for code in np.unique(codes)})
    if "" in present:
        got = "some images are in no class folder" if len(present) > 1 else "no class folders"
        raise ValueError(
            f"{where}: no labels: {got}; expected two or more class folders, and every image in "
            "one, or a label beside each image. Sort the images, or use a command without labels."
        )
    number = {name: i for i, name in enumerate(present)}
    return present, np.array([number.get(name, -1) for name in first], np.int64)[codes]


def _first(folder: str, prefix: str) -> str:
    return f"{folder}/".removeprefix(prefix).partition("/")[0]


def _by_numbers(
    where: str, words: list[str], codes: NDArray[np.int64], train: Labels | None
) -> Labels:
    """Labels as they are."""
    if train is not None and train.classes is not None:
        raise ValueError(
            f"{where}: labels are numbers, such as {words[0]}, and those of the training images "
            f"class names, such as {train.classes[0]}; {SAME_KIND}"
        )
    values = np.array([int(word) for word in words], np.int64)
    same = bool((values == np.arange(len(values))).all())
    return Labels(codes if same else values[codes], None)


def _by_names(
    where: str, names: list[str], codes: NDArray[np.int64], train: Labels | None
) -> Labels:
    """Labels that count in the training images' classes."""
    if train is not None and train.classes is None:
        raise ValueError(
            f"{where}: labels are class names, such as {names[0]}, and those of the training "
            f"images numbers, such as {train.labels[0]}; {SAME_KIND}"
        )
    # a table sorts words that could be numbers by their value
    known = sorted(names) if train is None or train.classes is None else train.classes
    if len(known) < 2:
        raise ValueError(
            f"{where}: no labels: {known[0]} is the only class; expected two or more. Sort the "
            "images, or use a command without labels."
        )
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(
            f"{where}: classes that the training images have not: {', '.join(unknown[:5])}; "
            "expected the same in both. Rename or remove them."
        )
    if known == names:
        return Labels(codes, known)
    number = {name: i for i, name in enumerate(known)}
    return Labels(np.array([number[name] for name in names], np.int64)[codes], known)


def named(where: str, found: Labels, names: list[str] | None, file: str) -> Labels:
    """Labels that are numbers, with the names that a file of classes gives them.

    Raises:
        ValueError: fewer names than labels.
    """
    if found.classes is not None or names is None:
        return found
    most = int(found.labels.max())
    if most >= len(names):
        raise ValueError(
            f"{where}: labels up to {most}, and {len(names)} names in {file}; expected a name for "
            f"each. Mend {file}, or take it away."
        )
    return Labels(found.labels, names)


def unsaid_labels(
    labels: NDArray[np.int64] | None,
    classes: Sequence[str] | None,
    folders: Sequence[str],
    codes: NDArray[Any],
    prefix: str = "",
) -> bytes:
    """Labels for a digest, of the images alone whose first folder is not called like their class.

    Args:
        labels: (N,) of the images.
        classes: names of the classes.
        folders: names of folders.
        codes: (N,) the folder of each image.
        prefix: what the folders begin with, and no class is.
    """
    if labels is None:
        return b""
    number = {name: i for i, name in enumerate(classes or ())}
    said = np.array([number.get(_first(f, prefix), -1) for f in folders] or [-1])[codes]
    unsaid = np.flatnonzero(said != labels)
    return unsaid.tobytes() + labels[unsaid].tobytes() if len(unsaid) else b""
