"""Which of several names is the training part of the data, and which the validation part."""

import os
from collections.abc import Sequence
from pathlib import Path

from mgd_ssl.data.layout import TEST, TRAIN, VAL, split_kinds
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import NoValidationError


def find_part(where: str, names: Sequence[str], split: Split, remedy: str) -> str | None:
    """The name that is called like a split; None where all names are training images together.

    Args:
        where: the names are, for messages.
        names: of what is beside each other: folders, or files without their numbers.
        split: "train" or "val"; val is taken before test.
        remedy: what to do about names that are refused.

    Raises:
        NoValidationError: "val" is wanted and there is none.
        ValueError: several names are called like the split, or "val" alone is there.
    """
    kinds = split_kinds(names)
    called = {kind: [n for n in names if kinds.get(n) == kind] for kind in (TRAIN, VAL, TEST)}
    chosen = called[TRAIN] if split == "train" else called[VAL] or called[TEST]
    if len(chosen) > 1:
        raise ValueError(
            f"{where}: {', '.join(chosen)} are all called like its {split} part; expected one. "
            f"{remedy}"
        )
    if chosen:
        return chosen[0]
    if split == "val":
        raise NoValidationError(
            f"{where}: no validation images; expected a part called val, valid, validation or test "
            "beside train. Add one, or use a command that needs only training images."
        )
    if called[VAL] or called[TEST]:
        raise ValueError(
            f"{where}: {', '.join(called[VAL] or called[TEST])} without train; expected both. "
            f"{remedy}"
        )
    return None


def beside(path: Path, split: Split) -> Path:
    """The file of a split: the one that was named, or the one beside it that is called like val.

    Raises:
        NoValidationError: there is none.
    """
    if split == "train":
        return path
    suffix = path.suffix
    with os.scandir(path.parent) as entries:
        stems = sorted(e.name.removesuffix(suffix) for e in entries if e.name.endswith(suffix))
    if split_kinds(stems).get(path.stem) != TRAIN:
        raise NoValidationError(
            f"{path}: no validation images; expected files called like train{suffix} and "
            f"val{suffix} beside each other. Rename them, or use a command that needs only "
            "training images."
        )
    part = find_part(str(path.parent), stems, "val", "Move the others to another folder.")
    return path.with_name(f"{part}{suffix}")
