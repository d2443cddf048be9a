"""Folders of image files, in class folders or in any tree."""

from functools import partial
from pathlib import Path

from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.folders import Scan, counted, label_paths, scan
from mgd_ssl.data.formats import LISTS
from mgd_ssl.data.layout import TRAIN, find_layout, split_folder, split_kinds
from mgd_ssl.data.reader import Opener, Reader, Wanted
from mgd_ssl.data.several import check_no_parts_below, class_trees


def find(path: Path) -> Opener | None:
    """Any folder."""
    return partial(_open, path) if path.is_dir() else None


def _open(path: Path, wanted: Wanted) -> FolderSource:
    layout = find_layout(
        path,
        labeled=wanted.labeled,
        train_folder=wanted.train_folder,
        val_folder=wanted.val_folder,
    )
    root = split_folder(path, layout, wanted.split)
    found = scan(root)
    if not found.paths:
        skipped = counted(found.left_out)
        raise ValueError(
            f"{root}: a folder without images; expected files such as .jpg, .png or .webp in it or "
            f"in folders under it. {_remedy(root)}{f' (skipped: {skipped})' if skipped else ''}."
        )
    if not layout.chosen:
        check_no_parts_below(root, found.trees)
    classes, labels = None, None
    try:
        classes, labels = label_paths(root, found, layout.train if wanted.split == "val" else None)
    except ValueError:
        if wanted.labeled:
            raise
    source = FolderSource(root, found.paths, labels, classes, wanted.max_pixels)
    source.skipped, source.unused = _left_out(found), layout.unused
    source.several = class_trees(root, found.trees) if root == path else ""
    return source


def _remedy(root: Path) -> str:
    """What helps where a folder has no images: a list in it, where one is called like train."""
    lists = sorted(path for path in root.iterdir() if path.suffix.lower() in LISTS)
    kinds = split_kinds([path.stem for path in lists])
    of_train = [path for path in lists if kinds.get(path.stem) == TRAIN]
    return f"It holds lists of images: name {of_train[0]}" if of_train else "Check the path"


def _left_out(found: Scan) -> str:
    """What was left out of a folder, in words."""
    barren = ", ".join(f"{name}/" for name in list(found.barren)[:5])
    parts = [counted(found.left_out), f"no images in {barren}" if barren else ""]
    return "; ".join(part for part in parts if part)


READER = Reader("a folder of images", find)
