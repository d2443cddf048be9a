"""Images with boxes."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.sources import ImageSource, SubsetSource, WrappedSource
from mgd_ssl.detection.annotations import AnnotationTable

FIRST = 8  # images whose sizes are compared with their annotations before the first step
LONGEST = 100  # largest ratio of an image's sides: a detector would resize others to nothing


class DetectionSource(WrappedSource):
    """Images that can be read by index, and their boxes.

    Args:
        images: the images.
        table: their annotations; `AnnotationTable.empty` where there are none.
        whole: the source that these images were selected from.

    Attributes:
        category_ids: COCO ids in the order of the labels 0..K-1.
        classes: category names in the same order.
    """

    category_ids: list[int]
    classes: list[str]

    def __init__(
        self,
        images: ImageSource,
        table: AnnotationTable,
        whole: "DetectionSource | None" = None,
    ) -> None:
        super().__init__(images)
        self.table, self._whole = table, whole
        self.category_ids, self.classes = table.category_ids, table.classes

    @property
    def whole(self) -> "DetectionSource":
        """The source that the images were selected from; else the source itself."""
        return self._whole or self

    def select(self, indices: NDArray[np.int64]) -> "DetectionSource":
        """The images at ``indices``, in that order, with their boxes."""
        images = SubsetSource(self.source, indices)
        return DetectionSource(images, self.table.select(indices), self.whole)

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to RGB, turned as :meth:`open` says."""
        return self.open(index).load()

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Open image ``index``, upright unless its boxes were drawn on the image as it is stored.

        Raises:
            ValueError: the image has another size than its annotations say, or is too long.
            Exception: whatever the decoder raises on a damaged file.
        """
        picture = super().open(index, exif=exif)
        if wrong := self._mismatch(index, picture):
            raise ValueError(wrong)
        if self.table.sizes is not None and picture.size != self._size(index):
            picture = replace(picture, turn=None)
        return _check_shape(picture)

    def _size(self, index: int) -> tuple[int, int]:
        """Width and height that the annotations say of image ``index``."""
        assert self.table.sizes is not None
        height, width = self.table.sizes[index].tolist()
        return width, height

    def _mismatch(self, index: int, picture: Picture) -> str:
        """How an image's size differs from its annotations', upright and as stored; else empty."""
        if self.table.sizes is None or self._size(index) in (picture.size, picture.stored):
            return ""
        got, expected = ("x".join(map(str, s)) for s in (picture.size, self._size(index)))
        return f"{got} pixels where {self.table.file} says {expected}"

    def check_sizes(self) -> None:
        """Compare the first images with their annotations: of a wrong file all have other sizes.

        Raises:
            ValueError: none of the images that can be opened has the size that is said of it.
        """
        wrong = list[str]()
        for index in range(min(FIRST, len(self))):
            with suppress(Exception):  # damaged images are counted later
                wrong.append(self._mismatch(index, super().open(index)))
        if wrong and all(wrong):
            raise ValueError(
                f"{self.table.file}: none of the first {len(wrong)} images has the size that it "
                f"says, such as {wrong[0]}; expected the width and height of each image; look "
                "whether they are exchanged, or whether the file is of other images"
            )

    @property
    def annotations(self) -> str:
        """What is known of the images, in words: "boxes of 80 categories"."""
        count = len(self.category_ids)
        return f"boxes of {count} categories" if count else "no boxes"

    def annotation_bytes(self, indices: NDArray[np.int64]) -> bytes:
        """Boxes, labels, areas and crowds of the images."""
        objects = (self.table.objects(index) for index in indices.tolist())
        return b"".join(np.ascontiguousarray(column).tobytes() for o in objects for column in o)

    def target(self, index: int) -> dict[str, Tensor]:
        """What training takes of image ``index``, crowds left out.

        Returns:
            "boxes" (M,4) float32 x1, y1, x2, y2 in pixels and "labels" (M,) int64 in 0..K-1.
        """
        objects = self.table.objects(index)
        single = ~objects.crowd
        return {
            "boxes": torch.from_numpy(objects.boxes[single].astype(np.float32)),
            "labels": torch.from_numpy(objects.labels[single]),
        }

    def ground_truth(self) -> dict[str, Any]:
        """All objects as a COCO dictionary of images, annotations and categories.

        Raises:
            ValueError: the source was opened without annotations.
        """
        if self.table.sizes is None:
            raise ValueError(
                f"{self.name}: opened without annotations; expected them where boxes are "
                "evaluated. Name a folder with annotations/instances_val.json."
            )
        return self.table.ground_truth()


def _check_shape(picture: Picture) -> Picture:
    if max(picture.size) > LONGEST * min(picture.size):
        width, height = picture.size
        raise ValueError(f"{width}x{height} pixels; expected sides of at most {LONGEST} to 1")
    return picture
