"""Some of the images of a source."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.sources import ImageSource


class SubsetSource(ImageSource):
    """Some of the images of another source, in the order of ``indices``."""

    def __init__(self, source: ImageSource, indices: NDArray[np.int64]) -> None:
        self.name, self.classes, self.in_memory = source.name, source.classes, source.in_memory
        self.skipped, self.unused = source.skipped, source.unused
        self.labels = None if source.labels is None else source.labels[indices]
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    @property
    def whole(self) -> ImageSource:
        """The source that the images were taken from."""
        return self.source.whole

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` of the subset."""
        return self.source.read(int(self.indices[index]))

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Open image ``index`` of the subset."""
        return self.source.open(int(self.indices[index]), exif=exif)

    def describe(self, index: int) -> str:
        """Where image ``index`` of the subset is."""
        return self.source.describe(int(self.indices[index]))

    def encoded(self, index: int) -> bytes | None:
        """The image file of image ``index`` of the subset."""
        return self.source.encoded(int(self.indices[index]))

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` of the subset is called, and its size."""
        return self.source.stored(int(self.indices[index]))

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
