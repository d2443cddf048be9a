"""Where images come from: folders, IDX files, CIFAR, arrays, the embedded sample."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgd_ssl.data.decoding import Picture, open_picture
from mgd_ssl.data.folders import PathList, find_images, label_paths, split_folder
from mgd_ssl.data.packed import Packed, find_packed, load_packed

Split = Literal["train", "val"]
SAMPLE = Path(__file__).parent / "sample" / "fashion_mnist.npz"
FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


class ImageSource(ABC):
    """Images that can be read by index, and their labels where they are known.

    Attributes:
        name: what a report calls the source.
        labels: (N,) int64 class of every image, or None.
        classes: class names in the order of the labels, or None.
        in_memory: True where reading is cheap and worker processes would only cost time.
    """

    name: str
    labels: NDArray[np.int64] | None = None
    classes: list[str] | None = None
    in_memory: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to upright RGB; raises where it cannot be decoded."""

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Image ``index``, a JPEG not decoded yet; turned as its EXIF says unless told otherwise.

        Raises where it cannot be opened.
        """
        return Picture.of(self.read(index))

    @abstractmethod
    def describe(self, index: int) -> str:
        """Say where image ``index`` is: its path, or ``file[index]``."""

    def read_array(self, indices: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Images (B, H, W) or (B, H, W, 3) at once where the source is one array, else None."""
        return None


class ArraySource(ImageSource):
    """Images held as one uint8 array.

    Args:
        images: (N, H, W) grey or (N, H, W, 3) RGB, uint8.
        labels: (N,) classes, or None.
        name: what a report calls the source.
        classes: class names, or None.
        origin: the file that :meth:`describe` names.
    """

    in_memory = True

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.integer] | None = None,
        *,
        name: str = "array",
        classes: list[str] | None = None,
        origin: str | None = None,
    ) -> None:
        grey_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
        if images.dtype != np.uint8 or not grey_or_rgb:
            raise ValueError(
                f"{name}: images of {images.dtype} {images.shape}; expected uint8 (N, H, W) or "
                "(N, H, W, 3). Convert the array first."
            )
        if labels is not None and len(labels) != len(images):
            raise ValueError(
                f"{name}: {len(labels)} labels for {len(images)} images; expected one label an "
                "image. Check that both files belong to the same split."
            )
        self.images, self.name, self.classes = images, name, classes
        self.labels = None if labels is None else labels.astype(np.int64)
        self._origin = origin or name

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        """Image ``index`` as RGB."""
        return Image.fromarray(self.images[index]).convert("RGB")

    def describe(self, index: int) -> str:
        """``file[index]``."""
        return f"{self._origin}[{index}]"

    def read_array(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy the images of ``indices``."""
        return self.images[indices]


class FolderSource(ImageSource):
    """Image files under a folder, in sorted order.

    Args:
        root: folder that paths are relative to.
        paths: relative paths of the images.
        labels: (N,) classes, or None.
        classes: class names, or None.
    """

    def __init__(
        self,
        root: Path,
        paths: list[str],
        labels: NDArray[np.int64] | None = None,
        classes: list[str] | None = None,
    ) -> None:
        self.name, self.labels, self.classes = str(root), labels, classes
        self._paths = PathList(paths)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def read(self, index: int) -> Image.Image:
        """Decode file ``index`` to upright RGB; raises where it cannot be decoded."""
        return self.open(index).load()

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """File ``index``; raises where it cannot be opened."""
        return open_picture(self.describe(index), exif=exif)

    def describe(self, index: int) -> str:
        """The path of file ``index``."""
        return os.path.join(self.name, self._paths[index])


class SubsetSource(ImageSource):
    """Some of the images of another source, in the order of ``indices``."""

    def __init__(self, source: ImageSource, indices: NDArray[np.int64]) -> None:
        self.name, self.classes, self.in_memory = source.name, source.classes, source.in_memory
        self.labels = None if source.labels is None else source.labels[indices]
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` of the subset."""
        return self.source.read(int(self.indices[index]))

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Open image ``index`` of the subset."""
        return self.source.open(int(self.indices[index]), exif=exif)

    def describe(self, index: int) -> str:
        """Where image ``index`` of the subset is."""
        return self.source.describe(int(self.indices[index]))

    def read_array(self, indices: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Images of the subset at once, where the source can."""
        return self.source.read_array(self.indices[indices])


def subset(source: ImageSource, count: int, seed: int = 0) -> ImageSource:
    """A fixed random choice of ``count`` images in source order; all of them if there are fewer.

    Raises:
        ValueError: ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"a subset of {count} images; expected at least 1.")
    if count >= len(source):
        return source
    chosen = np.random.default_rng(seed).choice(len(source), count, replace=False)
    return SubsetSource(source, np.sort(chosen).astype(np.int64))


def split_off(source: ImageSource, count: int, seed: int = 0) -> tuple[ImageSource, ImageSource]:
    """The other images, and a fixed random choice of ``count``, both in source order.

    Raises:
        ValueError: one of the two would be empty.
    """
    if not 0 < count < len(source):
        raise ValueError(f"{count} of {len(source)} images split off; expected some, and not all.")
    order = np.random.default_rng(seed).permutation(len(source))
    rest, chosen = np.sort(order[count:]), np.sort(order[:count])
    return SubsetSource(source, rest), SubsetSource(source, chosen)


def open_source(path: Path | None, split: Split, labelled: bool = False) -> ImageSource:
    """Open the images at ``path``, recognising the layout by looking.

    None is the embedded sample. A folder may hold IDX files (MNIST, Fashion-MNIST), CIFAR-10 or
    CIFAR-100 as torchvision lays them out, ``train/`` and ``val/`` (or ``valid/``, ``validation/``,
    ``test/``) of class folders, or any tree of images, which is then all of split "train".

    Args:
        path: folder, or None.
        split: "train" or "val".
        labelled: refuse a source without labels.

    Raises:
        ValueError: no such folder, no images, no such split, or no labels where they are wanted.
    """
    if split not in ("train", "val"):
        raise ValueError(f'split {split!r}; expected "train" or "val".')
    if path is None:
        return _open_sample(split)
    if not path.is_dir():
        got = "it is a file" if path.exists() else "there is no such folder"
        raise ValueError(
            f"data folder {path}: {got}; expected a folder of images, of IDX files or of CIFAR "
            "batches. Check the path, or give none to run on the embedded sample."
        )
    packed = find_packed(path)
    source = _open_packed(packed, split) if packed else _open_folder(path, split, labelled)
    if labelled and source.labels is None:
        raise ValueError(
            f"{source.name}: {len(source)} images without labels; expected a label for each. "
            "Use a command that needs no labels, or add the file of labels."
        )
    return source


def _open_sample(split: Split) -> ArraySource:
    with np.load(SAMPLE, allow_pickle=False) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    name = f"Fashion-MNIST sample, {split}"
    return ArraySource(images, labels, name=name, classes=FASHION_CLASSES, origin=str(SAMPLE))


def _open_packed(packed: Packed, split: Split) -> ArraySource:
    images, labels, classes, origin = load_packed(packed, split)
    return ArraySource(images, labels, name=origin, classes=classes, origin=origin)


def _open_folder(path: Path, split: Split, labelled: bool) -> FolderSource:
    root = split_folder(path, split)
    paths = find_images(root)
    if not paths:
        raise ValueError(
            f"{root}: a folder without images; expected files such as .jpg, .png or .webp in it or "
            "in folders under it. Check the path."
        )
    try:
        classes, labels = label_paths(path, root, paths)
    except ValueError:
        if labelled:
            raise
        return FolderSource(root, paths)
    return FolderSource(root, paths, labels, classes)
