"""Image files under a folder."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.path_list import PathList
from mgd_ssl.data.sources import EncodedSource


class FolderSource(EncodedSource):
    """Image files under a folder, in sorted order.

    Args:
        root: folder that paths are relative to.
        paths: relative paths of the images.
        labels: (N,) classes, or None.
        classes: class names, or None.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.
    """

    def __init__(
        self,
        root: Path,
        paths: list[str],
        labels: NDArray[np.int64] | None = None,
        classes: list[str] | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.name, self.labels, self.classes = str(root), labels, classes
        self.max_pixels = max_pixels
        self._paths = PathList(paths)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def encoded(self, index: int) -> bytes:
        """The content of file ``index``; raises where it cannot be read."""
        with open(self.describe(index), "rb") as file:
            return file.read()

    def describe(self, index: int) -> str:
        """The path of file ``index``."""
        return os.path.join(self.name, self._paths[index])
