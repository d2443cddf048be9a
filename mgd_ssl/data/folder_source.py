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
        self.root, self.max_pixels = str(root), max_pixels
        self._paths = PathList(paths)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def encoded(self, index: int) -> bytes:
        """The content of file ``index``; raises where it cannot be read."""
        with open(self.describe(index), "rb") as file:
            return file.read()

    def stored(self, index: int) -> tuple[str, int]:
        """The relative path of file ``index``, and its size in bytes, -1 where it is gone."""
        try:
            size = os.stat(self.describe(index)).st_size
        except OSError:
            size = -1
        return self._paths[index], size

    def describe(self, index: int) -> str:
        """The path of file ``index``."""
        return os.path.join(self.root, self._paths[index])
