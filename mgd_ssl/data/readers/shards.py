"""Tar shards in WebDataset's layout: ``000000.tar``, ``000001.tar``, …, read by an index."""

from functools import partial
from pathlib import Path

from mgd_ssl.data.archives.index import ArchiveIndex
from mgd_ssl.data.archives.indexing import open_index
from mgd_ssl.data.archives.labels import Labels, named, read_labels
from mgd_ssl.data.archives.source import ArchiveSource
from mgd_ssl.data.archives.tar_entries import read_tar
from mgd_ssl.data.folders import counted
from mgd_ssl.data.reader import Opener, Reader, Wanted
from mgd_ssl.data.shard_groups import ShardGroup, find_group, holds_files

CLASSES = "classes.txt"
SUFFIXES = (".tar",)
ALL = slice(None)


def find(path: Path) -> Opener | None:
    """Tar archives in a folder, or in the folders in it, that holds no image files."""
    return partial(_open, path) if holds_files(path, SUFFIXES) else None


def _open(path: Path, wanted: Wanted) -> ArchiveSource:
    group, unused = find_group(path, SUFFIXES, wanted, wanted.split)
    index = _index(group)
    if not len(index):
        raise ValueError(
            f"{group.folder}: {len(group.names)} tar archives without an image; expected shards "
            f"with images (skipped: {counted(index.skipped) or 'nothing'})."
        )
    source = ArchiveSource(index, str(group.folder), max_pixels=wanted.max_pixels)
    try:
        found = _labels(path, wanted, group, index)
        source.labels, source.classes = found.labels, found.classes
    except ValueError:
        if wanted.labeled:
            raise
    source.skipped, source.unused = counted(index.skipped), unused
    return source


def _index(group: ShardGroup) -> ArchiveIndex:
    return open_index(group.folder, group.names, group.prefix or "shards", read_tar)


def _labels(path: Path, wanted: Wanted, group: ShardGroup, index: ArchiveIndex) -> Labels:
    """Labels, of classes that are the training images' where these are others."""
    where, of_train = str(group.folder), None
    if wanted.split == "val":
        train = _index(find_group(path, SUFFIXES, wanted, "train")[0])
        of_train = read_labels(where, train.table, ALL)
    found = read_labels(where, index.table, ALL, train=of_train)
    places = (folder / CLASSES for folder in (group.folder, path))
    file = next((place for place in places if place.is_file()), None)
    names = file.read_text("utf-8").splitlines() if file else None
    return named(where, found, names, CLASSES)


READER = Reader("a folder of tar shards", find)
