"""IDX files (MNIST, Fashion-MNIST) and CIFAR batches."""

from functools import partial
from pathlib import Path

from mgd_ssl.data.packed import Packed, find_packed, load_packed
from mgd_ssl.data.reader import Opener, Reader, Wanted
from mgd_ssl.data.sources import ArraySource


def find(path: Path) -> Opener | None:
    """Look for IDX files or CIFAR batches.

    Raises:
        ValueError: several data sets are there.
    """
    packed = find_packed(path) if path.is_dir() else None
    return partial(_open, packed) if packed else None


def _open(packed: Packed, wanted: Wanted) -> ArraySource:
    wanted.refuse_folders(str(packed.folder))
    images, labels, classes, origin = load_packed(packed, wanted.split)
    return ArraySource(images, labels, name=origin, classes=classes, origin=origin)


READER = Reader("a folder of IDX files or of CIFAR batches", find)
