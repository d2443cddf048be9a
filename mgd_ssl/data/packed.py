"""Data sets that keep many images in one file: IDX (MNIST, Fashion-MNIST) and CIFAR."""

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.folders import is_folder
from mgd_ssl.data.sources import NoValidationError

Kind = Literal["idx", "cifar10", "cifar100"]
CIFAR_FOLDERS: dict[str, Kind] = {
    "cifar-10-batches-py": "cifar10",
    "cifar-100-python": "cifar100",
}
IDX_PREFIX = {"train": "train", "val": "t10k"}


@dataclass(frozen=True)
class Packed:
    """A packed data set that was found: its kind and the folder of its files."""

    kind: Kind
    folder: Path


class Arrays(NamedTuple):
    """Images (N, H, W[, 3]) uint8, labels (N,) int64 or None, class names or None, and the file."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: list[str] | None
    origin: str


def find_packed(path: Path) -> Packed | None:
    """Look for IDX files or CIFAR batches in ``path`` and where torchvision puts them under it.

    Raises:
        ValueError: several data sets are there.
    """
    with os.scandir(path) as entries:  # tells folders from a million files without asking for each
        below = sorted(Path(entry.path, "raw") for entry in entries if is_folder(entry))
    idx = [path, path / "raw", *below]
    found = [Packed("idx", folder) for folder in idx if _idx_file(folder, "train", "images-idx3")]
    for name, kind in CIFAR_FOLDERS.items():
        cifar = path if path.resolve().name == name else path / name
        if cifar.is_dir():
            found.append(Packed(kind, cifar))
    if len(found) > 1:
        raise ValueError(
            f"{path}: several data sets, {', '.join(str(p.folder) for p in found)}; expected one. "
            "Name the folder of the one to use."
        )
    return found[0] if found else None


def load_packed(packed: Packed, split: str) -> Arrays:
    """Read the "train" or "val" images of a packed data set, all of them.

    Raises:
        ValueError: files of the split are missing or damaged.
    """
    if packed.kind == "idx":
        return _load_idx(packed.folder, split)
    return _load_cifar(packed, split)


def _idx_file(folder: Path, split: str, content: str) -> Path | None:
    name = f"{IDX_PREFIX[split]}-{content}-ubyte"
    candidates = (folder / name, folder / f"{name}.gz")
    return next((file for file in candidates if file.is_file()), None)


def _load_idx(folder: Path, split: str) -> Arrays:
    images = _idx_file(folder, split, "images-idx3")
    labels = _idx_file(folder, split, "labels-idx1")
    if images is None:
        wanted = f"{IDX_PREFIX[split]}-images-idx3-ubyte"
        refusal = NoValidationError if split == "val" else ValueError
        raise refusal(
            f"{folder}: no images of split {split}; expected {wanted}, plain or .gz. Put "
            "the file beside the others."
        )
    pixels = read_idx(images, ndim=3)
    classes = None if labels is None else read_idx(labels, ndim=1).astype(np.int64)
    return Arrays(pixels, classes, None, str(images))


def read_idx(file: Path, ndim: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzip, of so many dimensions.

    Layout (http://yann.lecun.com/exdb/mnist): two zero bytes, the type (8: unsigned byte), the
    number of dimensions, each dimension as a big-endian uint32, then the values.

    Raises:
        ValueError: another type or number of dimensions, no value, or fewer or more than the
            header says.
    """
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        zeros, kind, found = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{found}I", data, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(f"{file}: {error}; expected an IDX file. Fetch the file again.") from error
    start = 4 + 4 * found
    count = len(data) - start
    if zeros != 0 or kind != 8 or found != ndim or count != math.prod(shape) or not count:
        raise ValueError(
            f"{file}: IDX type {kind}, {count} values for shape {shape}; expected type 8 "
            f"(unsigned byte), {ndim} dimensions and as many values as the shape has, one or "
            "more. Fetch the file again."
        )
    return np.frombuffer(data, dtype=np.uint8)[start:].reshape(shape)


def _load_cifar(packed: Packed, split: str) -> Arrays:
    from torchvision.datasets import CIFAR10, CIFAR100  # slow to import, and rarely needed

    folder = packed.folder.resolve()
    reader = CIFAR10 if packed.kind == "cifar10" else CIFAR100
    try:  # torchvision compares checksums before it unpickles anything
        data = reader(folder.parent, train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"{folder}: {error}; expected the files of the original archive. Unpack it again."
        ) from error
    targets = np.array(data.targets, dtype=np.int64)
    return Arrays(data.data, targets, list(data.classes), str(folder))
