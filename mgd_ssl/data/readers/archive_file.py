"""One archive of a folder tree: a zip or tar file, read without unpacking."""

import os
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.archives.entries import Table
from mgd_ssl.data.archives.indexing import open_index
from mgd_ssl.data.archives.labels import read_labels
from mgd_ssl.data.archives.source import ArchiveSource
from mgd_ssl.data.archives.tar_entries import read_tar
from mgd_ssl.data.archives.zip_entries import ZipSource, read_zip
from mgd_ssl.data.folders import counted
from mgd_ssl.data.layout import split_kinds
from mgd_ssl.data.parts import find_part
from mgd_ssl.data.reader import Opener, Reader, Split, Wanted
from mgd_ssl.data.sources import NoValidationError

KINDS = {".zip": (read_zip, ZipSource), ".tar": (read_tar, ArchiveSource)}


def find(path: Path) -> Opener | None:
    """A file whose name ends in .zip or .tar."""
    known = path.suffix.lower() in KINDS and path.is_file()
    return partial(_open, path) if known else None


def _open(path: Path, wanted: Wanted) -> ArchiveSource:
    read, kind = KINDS[path.suffix.lower()]
    index = open_index(path.parent, [path.name], path.name, read)
    if not len(index):
        raise ValueError(
            f"{path}: an archive without images; expected files such as .jpg, .png or .webp in it "
            f"(skipped: {counted(index.skipped) or 'nothing'})."
        )
    table = index.table
    prefix, unused = _part(path, table, wanted, wanted.split)
    rows = _rows(table, prefix)
    name = f"{path}[{prefix}]" if prefix else str(path)
    some = None if isinstance(rows, slice) else rows
    source = kind(index, name, some, prefix, wanted.max_pixels)
    try:
        train = None
        if wanted.split == "val":
            train_prefix, _ = _part(path, table, wanted, "train")
            train = read_labels(str(path), table, _rows(table, train_prefix), train_prefix)
        found = read_labels(name, table, rows, prefix, train)
        source.labels, source.classes = found.labels, found.classes
    except ValueError:
        if wanted.labeled:
            raise
    source.skipped, source.unused = counted(index.skipped), unused
    return source


def _part(path: Path, table: Table, wanted: Wanted, split: Split) -> tuple[str, tuple[str, ...]]:
    """What the names of a split's images begin with, and other folders that hold images."""
    common = os.path.commonpath(table.folders) if all(table.folders) else ""
    root = f"{common}/" if common else ""
    tops = sorted({f"{folder}/".removeprefix(root).partition("/")[0] for folder in table.folders})
    tops = [name for name in tops if name]
    given = wanted.train_folder if split == "train" else wanted.val_folder
    if given == "." and split == "train":
        return root, ()
    train = (wanted.train_folder or "").strip("/")
    if split == "val" and train:
        _check_apart(path, train, given)
        tops = [name for name in tops if name != train]
    if given is not None and given.strip("/") not in tops:
        raise ValueError(
            f"--{split}-folder: got {given}, which is no folder in {path}; expected one of "
            f"{', '.join(tops[:10]) or 'none'}"
        )
    remedy = f"Name one: --{split}-folder NAME"
    part = given.strip("/") if given else find_part(str(path), tops, split, remedy)
    if part is None:
        return root, ()
    used = {part, wanted.train_folder, wanted.val_folder, *split_kinds(tops)}
    return f"{root}{part}/", (*(f"{n}/" for n in tops if n not in used), *_loose(table, root))


def _check_apart(path: Path, train: str, given: str | None) -> None:
    """Refuse a validation folder that has the images of the named training folder.

    Raises:
        NoValidationError: all images are trained on, and no validation folder is named.
        ValueError: it is the training folder, or in it.
    """
    if given is not None and train in (".", given.strip("/")):
        raise ValueError(
            f"--val-folder: got {given}, which has images in common with the training folder "
            f"{train} in {path}; expected images of its own. Name two folders beside each other."
        )
    if train == ".":
        raise NoValidationError(
            f"{path}: no validation images, as --train-folder . trains on all of them; name a "
            "folder, or use a command that needs only training images."
        )


def _loose(table: Table, root: str) -> list[str]:
    """Images beside the parts, in words."""
    outside = np.array([f"{folder}/".removeprefix(root) in ("", "/") for folder in table.folders])
    count = int(outside[table.columns["folder"]].sum())
    return [f"{count} images outside folders"] if count else []


def _rows(table: Table, prefix: str) -> NDArray[np.int64] | slice:
    """The images whose names begin so."""
    inside = np.array([f"{folder}/".startswith(prefix) for folder in table.folders])
    return slice(None) if inside.all() else np.flatnonzero(inside[table.columns["folder"]])


READER = Reader("a zip or tar archive", find)
