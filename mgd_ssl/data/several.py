"""Folders that hold data sets, rather than the images of one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgd_ssl.data.layout import TEST, TRAIN, VAL, listed, split_kinds

MOST_NAMED = 5
Trees = Mapping[str, Sequence[str]]


def check_no_parts_below(root: Path, trees: Trees) -> None:
    """Refuse a tree that holds the parts of data sets further down.

    Args:
        root: of the tree.
        trees: names of the folders beside each other, under the folder that they are in.

    Raises:
        ValueError: a training and a validation folder are beside each other somewhere.
    """
    kinds = {folder: split_kinds(names) for folder, names in trees.items() if folder}
    parts = {folder: found for folder, found in kinds.items() if TRAIN in found.values()}
    if not any({VAL, TEST} & set(found.values()) for found in parts.values()):
        return
    folders = sorted(parts)
    found = "; ".join(f"{f}/ holds {listed(sorted(parts[f]))}" for f in folders[:MOST_NAMED])
    one = f"Name {root / folders[0]} as the data"
    several = f"These are {len(folders)} data sets: name one, or one after the other: "
    raise ValueError(
        f"{root}: {found}, so that validation images would be trained on; expected the parts at "
        f"the top. {one if len(folders) == 1 else several + _paths(root, folders)}, or say that "
        "all of the tree is meant: --train-folder ."
    )


def class_trees(root: Path, trees: Trees) -> str:
    """What is said of folders that each hold class folders, as of several data sets; else "".

    Years are none: photographs are kept in folders of years and months.
    """
    tops = sorted(trees[""])
    if len(tops) < 2 or any(len(trees[top]) < 2 or top.isdigit() for top in tops):
        return ""
    found = ", ".join(f"{top}/ ({len(trees[top])} folders)" for top in tops[:MOST_NAMED])
    return (
        f"{root} is used as one data set of the classes {found}; if these are {len(tops)} data "
        f"sets, name one, or one after the other: {_paths(root, tops)}"
    )


def _paths(root: Path, folders: Sequence[str]) -> str:
    more = " …" if len(folders) > MOST_NAMED else ""
    return " ".join(os.path.join(root, folder) for folder in folders[:MOST_NAMED]) + more
