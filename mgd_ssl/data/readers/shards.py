"""Tar shards in WebDataset's layout: ``000000.tar``, ``000001.tar``, …, read by an index."""

from functools import partial
from pathlib import Path

from mgd_ssl.data.archives.index import ArchiveIndex
from mgd_ssl.data.archives.indexing import open_index
from mgd_ssl.data.archives.labels import Labels, named, read_labels
from mgd_ssl.data.archives.source import ArchiveSource
from mgd_ssl.data.archives.tar_entries import read_tar
from mgd_ssl.data.folders import counted, folders_of, holds_images
from mgd_ssl.data.layout import find_layout, split_folder
from mgd_ssl.data.reader import Opener, Reader, Split, Wanted
from mgd_ssl.data.shard_groups import Group, files_in, split_group

CLASSES = "classes.txt"
ALL = slice(None)


def find(path: Path) -> Opener | None:
    """Tar archives in a folder, or in the folders in it, that holds no image files."""
    if not path.is_dir():
        return None
    inside = holds_shards(path)
    below = not inside and any(holds_shards(path / name) for name in folders_of(path))
    if not (inside or below) or holds_images(path):
        return None
    return partial(_open, path, inside)


def holds_shards(folder: Path) -> bool:
    """Whether there are tar archives in a folder itself."""
    return bool(files_in(folder, [".tar"]))


def _open(path: Path, inside: bool, wanted: Wanted) -> ArchiveSource:
    group, unused = _part(path, inside, wanted, wanted.split)
    index = _index(group)
    if not len(index):
        raise ValueError(
            f"{group.folder}: {len(group.names)} tar archives without an image; expected shards "
            f"with images (skipped: {counted(index.skipped) or 'nothing'})."
        )
    source = ArchiveSource(index, str(group.folder), max_pixels=wanted.max_pixels)
    try:
        found = _labels(path, inside, wanted, group, index)
        source.labels, source.classes = found.labels, found.classes
    except ValueError:
        if wanted.labelled:
            raise
    source.skipped, source.unused = counted(index.skipped), unused
    return source


def _part(path: Path, inside: bool, wanted: Wanted, split: Split) -> tuple[Group, tuple[str, ...]]:
    """The shards of a split."""
    if inside:
        wanted.refuse_folders(f"shards in {path}")
        return split_group(path, files_in(path, [".tar"]), split)
    layout = find_layout(
        path,
        labelled=wanted.labelled,
        train_folder=wanted.train_folder,
        val_folder=wanted.val_folder,
        holds=holds_shards,
    )
    folder = split_folder(path, layout, split)
    names = tuple(files_in(folder, [".tar"]))
    if not names:
        raise ValueError(f"{folder}: no tar archives; expected shards such as 000000.tar.")
    return Group(folder, "", names), layout.unused


def _index(group: Group) -> ArchiveIndex:
    return open_index(group.folder, group.names, group.prefix or "shards", read_tar)


def _labels(path: Path, inside: bool, wanted: Wanted, group: Group, index: ArchiveIndex) -> Labels:
    """Labels, of classes that are the training images' where these are others."""
    where = str(group.folder)
    classes = None
    if wanted.split == "val":
        train = _index(_part(path, inside, wanted, "train")[0])
        classes = read_labels(where, train.table, ALL).classes
    found = read_labels(where, index.table, ALL, classes=classes)
    places = (folder / CLASSES for folder in (group.folder, path))
    file = next((place for place in places if place.is_file()), None)
    names = file.read_text("utf-8").splitlines() if file else None
    return named(where, found, names, CLASSES)


READER = Reader("a folder of tar shards", find)
