"""Data sets that keep many images in one file: IDX (MNIST, Fashion-MNIST) and CIFAR."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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


def find_packed(path: Path) -> Packed | None:
    """Look for IDX files or CIFAR batches in ``path`` and where torchvision puts them under it.

    Raises:
        ValueError: several data sets are there.
    """
    idx = [path, path / "raw", *sorted(path.glob("*/raw"))]
    found = [
        Packed("idx", folder) for folder in idx if _idx_file(folder, "train-images-idx3-ubyte")
    ]
    for name, kind in CIFAR_FOLDERS.items():
        for folder in (path, path / name):
            if (
                folder.name == name
                and (folder / ("meta" if kind == "cifar100" else "batches.meta")).is_file()
            ):
                found.append(Packed(kind, folder))
    if len(found) > 1:
        raise ValueError(
            f"{path}: several data sets, {', '.join(str(p.folder) for p in found)}; expected one. "
            "Name the folder of the one to use."
        )
    return found[0] if found else None


def load_packed(
    packed: Packed, split: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str] | None, str]:
    """Images (N,H,W[,3]), labels (N,), class names and the file or folder that they came from."""
    if packed.kind == "idx":
        return _load_idx(packed.folder, split)
    return _load_cifar(packed, split)


def _idx_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((file for file in candidates if file.is_file()), None)


def _load_idx(
    folder: Path, split: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str] | None, str]:
    names = [f"{IDX_PREFIX[split]}-{rest}" for rest in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    files = [_idx_file(folder, name) for name in names]
    images_file, labels_file = files
    if images_file is None or labels_file is None:
        raise ValueError(
            f"{folder}: IDX files of split {split} are missing; expected {names[0]} and {names[1]}, "
            "plain or .gz. Put them beside the others."
        )
    return read_idx(images_file), read_idx(labels_file).astype(np.int64), None, str(images_file)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzip.

    Layout (http://yann.lecun.com/exdb/mnist): two zero bytes, the type (8: unsigned byte), the
    number of dimensions, each dimension as a big-endian uint32, then the values.

    Raises:
        ValueError: another type, or fewer or more values than the header says.
    """
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        zeros, kind, ndim = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{ndim}I", data, 4)
    except (OSError, EOFError, struct.error) as error:
        raise ValueError(f"{file}: not an IDX file ({error}). Fetch it again.") from error
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * ndim)
    if zeros != 0 or kind != 8 or values.size != np.prod(shape):
        raise ValueError(
            f"{file}: IDX type {kind}, {values.size} values for shape {shape}; expected type 8 "
            "(unsigned byte) and as many values as the shape has. Fetch the file again."
        )
    return values.reshape(shape)


def _load_cifar(
    packed: Packed, split: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str] | None, str]:
    from torchvision.datasets import CIFAR10, CIFAR100  # slow to import, and rarely needed

    reader = CIFAR10 if packed.kind == "cifar10" else CIFAR100
    try:  # torchvision compares checksums before it unpickles anything
        data = reader(packed.folder.parent, train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"{packed.folder}: {error}; expected the files of the original archive. Unpack it again."
        ) from error
    return data.data, np.array(data.targets, dtype=np.int64), list(data.classes), str(packed.folder)
