"""Sources of images: arrays, files of a folder, and parts of either."""

import os
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgd_ssl.data.decoding import Picture, open_encoded

THREADS = 16  # a network drive answers many questions at once


class NoValidationError(ValueError):
    """The data has no validation part."""


class ImageSource(ABC):
    """Images that can be read by index, and their labels where they are known.

    Attributes:
        name: what a report calls the source.
        labels: (N,) int64 class of every image, or None.
        classes: class names in the order of the labels, or None.
        in_memory: True where reading is cheap and worker processes would only cost time.
        skipped: what was left out of the folder, in words, or "".
        unused: what else holds images beside the folder.
        several: what makes the folder look like several data sets, in words, or "".
    """

    name: str
    labels: NDArray[np.int64] | None = None
    classes: list[str] | None = None
    in_memory: bool = False
    skipped: str = ""
    unused: tuple[str, ...] = ()
    several: str = ""

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

    def encoded(self, index: int) -> bytes | None:
        """The image file of image ``index`` as it is stored; None where there is none."""
        return None

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` is called within the source, and its size in bytes, -1 unknown."""
        path = self.describe(index)
        try:
            size = os.stat(path).st_size
        except OSError:  # no file of its own, or one that cannot be read: it counts by its name
            size = -1
        return path.removeprefix(self.name).removeprefix(os.sep), size

    def read_array(self, indices: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Images (B, H, W) or (B, H, W, 3) at once where the source is one array, else None."""
        return None

    @property
    def whole(self) -> "ImageSource":
        """The source that a subset, or a subset of a subset, was taken from; else the source."""
        return self

    def in_whole(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where images at ``indices`` are in `whole`."""
        return indices

    def select(self, indices: NDArray[np.int64]) -> "ImageSource":
        """The images at ``indices``, in that order, with all that is known of them."""
        return SubsetSource(self, indices)

    def pieces(self, indices: NDArray[np.int64]) -> list[tuple["ImageSource", NDArray[np.int64]]]:
        """The sources that images at ``indices`` come from, in order, and where they are there."""
        return [(self, indices)]

    @property
    def annotations(self) -> str:
        """What is known of the images, in words: "10 classes"."""
        if self.labels is None:
            return "no labels"
        present = len(np.unique(self.labels))
        total = len(self.classes or range(int(self.labels.max()) + 1))
        return f"{present} classes" if present == total else f"{present} of {total} classes"

    @property
    def contents(self) -> str:
        """Name, number of images and annotations, in words."""
        return f"{self.name} ({len(self):,} images, {self.annotations})"

    def annotation_bytes(self, indices: NDArray[np.int64]) -> bytes:
        """What a digest of the images adds for annotations that training reads; none here."""
        return b""


class WrappedSource(ImageSource):
    """The images of another source; a base for sources that choose among them or add to them."""

    def __init__(self, source: ImageSource) -> None:
        self.source, self.name, self.in_memory = source, source.name, source.in_memory
        self.skipped, self.unused = source.skipped, source.unused
        self.several = source.several

    def position(self, index: int) -> int:
        """Where image ``index`` is in the other source."""
        return index

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def read(self, index: int) -> Image.Image:
        """Decode image ``index``."""
        return self.source.read(self.position(index))

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Open image ``index``."""
        return self.source.open(self.position(index), exif=exif)

    def describe(self, index: int) -> str:
        """Where image ``index`` is."""
        return self.source.describe(self.position(index))

    def encoded(self, index: int) -> bytes | None:
        """The image file of image ``index``."""
        return self.source.encoded(self.position(index))

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` is called, and its size in bytes."""
        return self.source.stored(self.position(index))


class SubsetSource(WrappedSource):
    """Some of the images of another source, in the order of ``indices``."""

    def __init__(self, source: ImageSource, indices: NDArray[np.int64]) -> None:
        super().__init__(source)
        self.indices, self.classes = indices, source.classes
        self.labels = None if source.labels is None else source.labels[indices]

    def position(self, index: int) -> int:
        """Where image ``index`` of the subset is in the other source."""
        return int(self.indices[index])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    @property
    def whole(self) -> ImageSource:
        """The source that the images were taken from."""
        return self.source.whole

    def in_whole(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where images of the subset are in `whole`."""
        return self.source.in_whole(self.indices[indices])

    def pieces(self, indices: NDArray[np.int64]) -> list[tuple[ImageSource, NDArray[np.int64]]]:
        """Where images of the subset come from."""
        return self.source.pieces(self.indices[indices])

    def read_array(self, indices: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Images of the subset at once, where the source can."""
        return self.source.read_array(self.indices[indices])


class EncodedSource(ImageSource):
    """Images that are kept as image files, on their own or inside of another file.

    Attributes:
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.
    """

    max_pixels: int | None = None

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The image file of image ``index`` as it is stored; raises where it cannot be read."""

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to upright RGB; raises where it cannot be decoded."""
        return self.open(index).load()

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Open image ``index``; raises where it cannot be opened."""
        return open_encoded(self.encoded(index), exif=exif, max_pixels=self.max_pixels)


class ArraySource(ImageSource):
    """Images held as one uint8 array.

    Args:
        images: (N, H, W) gray or (N, H, W, 3) RGB, uint8.
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
        gray_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
        if images.dtype != np.uint8 or not gray_or_rgb:
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
