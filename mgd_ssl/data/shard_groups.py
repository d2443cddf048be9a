"""Files of a data set that are numbered: which belong together, and to which part of the data."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mgd_ssl.data.folders import folders_of, holds_images, is_file
from mgd_ssl.data.layout import find_layout, said_kinds, split_folder, split_kinds
from mgd_ssl.data.parts import find_part
from mgd_ssl.data.reader import Split, Wanted

MOST_LISTED = 10_000
# train-000003, train-00003-of-00008, and the hash that the Hugging Face hub used to append
NUMBER = re.compile(r"(-\d+-of-\d+(-[0-9a-f]{16})?|[-_.]?\d+)$")


@dataclass(frozen=True)
class ShardGroup:
    """Files of one folder that are called alike but for their number.

    Attributes:
        folder: that they are in.
        prefix: what their names begin with, without the number.
        names: of the files, sorted.
    """

    folder: Path
    prefix: str
    names: tuple[str, ...]


def files_in(folder: Path, suffixes: Sequence[str]) -> list[str]:
    """Sorted names of the files of a folder that end so, hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(tuple(suffixes))
            and not entry.name.startswith(".")
            and is_file(entry)
        )


def split_group(
    folder: Path, names: Sequence[str], split: Split
) -> tuple[ShardGroup, tuple[str, ...]]:
    """The files of a split, and what else there is.

    Where the names before the numbers say "train" and "val" (``train-000000.tar``), they tell the
    parts; else all files are training images.

    Raises:
        NoValidationError: "val" is wanted and there is none.
        ValueError: several parts are called alike, or "train" is wanted and there is none.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[NUMBER.sub("", name.split(".")[0])].append(name)
    remedy = "Move the others to another folder, or rename them."
    part = find_part(str(folder), list(groups), split, remedy)
    if part is None:
        if len(said := said_kinds(list(groups))) > 1:
            raise ValueError(
                f"{folder}: names of {' and '.join(sorted(said))} files that differ in more than a "
                f"number, such as {names[0]} and {names[-1]}; expected train-NUMBER and "
                f"val-NUMBER. {remedy}"
            )
        return ShardGroup(folder, "", tuple(names)), ()
    kinds = split_kinds(list(groups))
    unused = tuple(f"{len(groups[g])} files {g}*" for g in sorted(groups) if g not in kinds)
    return ShardGroup(folder, part, tuple(groups[part])), unused


def holds_files(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether such files, and no image files, are in a folder or in the parts below it.

    A folder of a million images is not listed for this.
    """
    if not path.is_dir():
        return False
    names = folders_of(path)
    places = [path, *(path / name for name in split_kinds(names))]
    return any(_begins_with(place, suffixes) for place in places) and not holds_images(path)


def _begins_with(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether there is such a file among the first that the system lists."""
    with os.scandir(folder) as entries:
        return any(
            entry.name.lower().endswith(tuple(suffixes)) and not entry.name.startswith(".")
            for entry in islice(entries, MOST_LISTED)
        )


def find_group(
    path: Path, suffixes: Sequence[str], wanted: Wanted, split: Split
) -> tuple[ShardGroup, tuple[str, ...]]:
    """The files of a split, and what else there is: in the folder itself, or in train/ and val/.

    Raises:
        NoValidationError: "val" is wanted and there is none.
        ValueError: names leave open which files are meant.
    """
    if inside := files_in(path, suffixes):
        wanted.refuse_folders(f"{inside[0]} in {path}")
        return split_group(path, inside, split)
    layout = find_layout(
        path,
        labeled=wanted.labeled,
        train_folder=wanted.train_folder,
        val_folder=wanted.val_folder,
        holds=lambda folder: bool(files_in(folder, suffixes)),
    )
    folder = split_folder(path, layout, split)
    names = tuple(files_in(folder, suffixes))
    if not names:
        raise ValueError(f"{folder}: no files {' or '.join(suffixes)}; expected some there.")
    return ShardGroup(folder, "", names), layout.unused
