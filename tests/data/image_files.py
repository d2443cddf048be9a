"""Small data sets on disk, written by the tests."""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int = 0, height: int = 40, width: int = 48) -> np.ndarray:
    """A smooth random color image, (height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, image: np.ndarray | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return path


def class_tree(root: Path, classes: dict[str, int]) -> Path:
    """PNG files ``root/CLASS/i.png``, as many as ``classes`` says."""
    for number, (name, count) in enumerate(classes.items()):
        for i in range(count):
            save(root / name / f"{i}.png", photo(100 * number + i))
    return root


def write_idx(file: Path, array: np.ndarray) -> Path:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


def idx_folder(root: Path, suffix: str = ".gz", train: int = 12, val: int = 5) -> Path:
    """The four files of MNIST with random 6×6 images."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", val)):
        images = rng.integers(0, 256, (count, 6, 6))
        write_idx(root / f"{prefix}-images-idx3-ubyte{suffix}", images)
        write_idx(root / f"{prefix}-labels-idx1-ubyte{suffix}", np.arange(count) % 3)
    return root


def truncate(path: Path, share: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def text_named_jpg(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not an image")
    return path
