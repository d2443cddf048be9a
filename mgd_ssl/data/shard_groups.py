"""Files of a data set that are numbered: which belong together, and to which part of the data."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgd_ssl.data.layout import TEST, TRAIN, VAL, split_kinds
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import NoValidationError

NUMBER = re.compile(r"(-\d+-of)?[-_.]?\d+$")  # train-000003, and train-00003-of-00008


@dataclass(frozen=True)
class Group:
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
            and entry.is_file()
        )


def split_group(folder: Path, names: Sequence[str], split: Split) -> tuple[Group, tuple[str, ...]]:
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
    kinds = split_kinds(list(groups))
    parts = {kind: [g for g in groups if kinds.get(g) == kind] for kind in (TRAIN, VAL, TEST)}
    if not any(parts.values()):
        chosen = [] if split == "val" else list(groups)
    else:
        chosen = parts[TRAIN] if split == "train" else parts[VAL] or parts[TEST]
        _check_one(folder, chosen, split)
    if not chosen:
        raise _absent(folder, split)
    used = sorted(name for group in chosen for name in groups[group])
    rest = tuple(f"{len(groups[g])} files {g}*" for g in sorted(groups) if g not in kinds)
    prefix = chosen[0] if any(parts.values()) else ""
    return Group(folder, prefix, tuple(used)), rest if prefix else ()


def _check_one(folder: Path, chosen: Sequence[str], split: Split) -> None:
    if len(chosen) > 1:
        raise ValueError(
            f"{folder}: files {'*, '.join(chosen)}* are all called like its {split} part; expected "
            "one. Move the others to another folder."
        )


def _absent(folder: Path, split: Split) -> ValueError:
    if split == "train":
        return ValueError(
            f"{folder}: files of a validation part without a training part; expected both. Add the "
            "others, or rename the files to train on them."
        )
    return NoValidationError(
        f"{folder}: no validation images; expected files such as val-000000 beside "
        "train-000000, or folders train/ and val/. Add them, or use a command that needs only "
        "training images."
    )
