"""The boxes of many images as arrays, and as COCO's dictionary."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Objects(NamedTuple):
    """M objects, each inside its image and of positive area.

    Boxes (M, 4) float64 x1, y1, x2, y2 in pixels; labels (M,) int64 in 0..K-1; areas (M,) float64
    in pixels, of the mask where there is one; crowd (M,) bool, True for a region of many objects.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def select(self, positions: NDArray[np.int64] | slice) -> "Objects":
        """The objects at these positions."""
        boxes, labels, areas, crowd = self
        return Objects(boxes[positions], labels[positions], areas[positions], crowd[positions])


@dataclass(frozen=True)
class AnnotationTable:
    """Annotations of N images, as arrays that the loader's workers share.

    Attributes:
        image_ids: N COCO ids.
        category_ids: K COCO ids, sorted, with or without gaps; a label is a position in them.
        classes: K category names in the same order.
        rows: the objects of all images, image after image.
        starts: (N + 1,) int64, where the objects of each image start in ``rows``.
        sizes: (N, 2) int64 height and width in pixels; None for images without annotations.
        dropped: annotations that are not targets, counted by reason.
        file: name of the annotation file.
    """

    image_ids: list[int]
    category_ids: list[int]
    classes: list[str]
    rows: Objects
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    file: str = ""

    @classmethod
    def empty(cls, count: int) -> "AnnotationTable":
        """The table of images without annotations."""
        areas = np.zeros(0)
        rows = Objects(np.zeros((0, 4)), areas.astype(np.int64), areas, areas.astype(np.bool_))
        return cls(list(range(count)), [], [], rows, np.zeros(count + 1, np.int64))

    def objects(self, index: int) -> Objects:
        """The objects of image ``index``, crowds included."""
        return self.rows.select(slice(*self.starts[index : index + 2].tolist()))

    def select(self, indices: NDArray[np.int64]) -> "AnnotationTable":
        """The annotations of some images, in the order of ``indices``."""
        spans = [np.arange(*self.starts[index : index + 2]) for index in indices]
        return replace(
            self,
            image_ids=[self.image_ids[index] for index in indices],
            rows=self.rows.select(np.concatenate([np.arange(0), *spans])),
            starts=starts_of(map(len, spans)),
            sizes=None if self.sizes is None else self.sizes[indices],
        )

    def ground_truth(self) -> dict[str, Any]:
        """All objects as a COCO dictionary of images, annotations and categories."""
        assert self.sizes is not None
        images = [
            {"id": image_id, "height": height, "width": width}
            for image_id, (height, width) in zip(self.image_ids, self.sizes.tolist(), strict=True)
        ]
        named = zip(self.category_ids, self.classes, strict=True)
        categories = [{"id": category, "name": name} for category, name in named]
        return {
            "images": images,
            "annotations": list(self._annotations()),
            "categories": categories,
        }

    def _annotations(self) -> Iterator[dict[str, Any]]:
        owners = np.repeat(np.arange(len(self.image_ids)), np.diff(self.starts)).tolist()
        rows = zip(owners, *(column.tolist() for column in self.rows), strict=True)
        # ids from 1 on: evaluators read 0 as "no match"
        for number, (owner, (x1, y1, x2, y2), label, area, crowd) in enumerate(rows, start=1):
            yield {
                "image_id": self.image_ids[owner],
                "category_id": self.category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(crowd),
                "id": number,
            }


def starts_of(counts: Any) -> NDArray[np.int64]:
    """Where the objects of each image start, and the last ones end, given the counts of objects."""
    return np.cumsum([0, *counts], dtype=np.int64)
