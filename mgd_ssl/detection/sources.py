"""Images with boxes: what a source of them offers, subsets, batches, loaders."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data.bad_files import make_guard, read_or_next
from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.loading import PositionedLoader
from mgd_ssl.data.sampling import ResumableBatchSampler
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.data.subsets import SubsetSource, subset

LONGEST = 100  # longer to shorter side of an image that a detector is given


class Objects(NamedTuple):
    """The M objects of one image, inside it and of positive area.

    Boxes (M, 4) float64 x1, y1, x2, y2 in pixels; labels (M,) int64 in 0..K-1; areas (M,) float64
    in pixels, of the mask where there is one; crowd (M,) bool, a region of many objects.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def at(self, which: NDArray[np.int64] | slice) -> "Objects":
        """The objects at these positions."""
        return Objects(self.boxes[which], self.labels[which], self.areas[which], self.crowd[which])


class DetectionBatch(NamedTuple):
    """Images and boxes of a step, as torchvision's detectors take them.

    Attributes:
        images: B images (3, H, W) uint8, each of its own size.
        targets: for each image "boxes" (M, 4) float32 x1, y1, x2, y2 in pixels and "labels" (M,)
            int64 in 0..K-1.
        indices: (B,) int64 position in the source.
        failed: (B,) int64 index of the image that was replaced, -1 where it could be decoded.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    indices: Tensor
    failed: Tensor


def check_shape(picture: Picture) -> Picture:
    """The same picture.

    Raises:
        ValueError: so long that its shorter side is nothing once a detector has resized it.
    """
    if max(picture.size) > LONGEST * min(picture.size):
        width, height = picture.size
        raise ValueError(f"{width}x{height} pixels; expected sides of at most {LONGEST} to 1")
    return picture


class DetectionSource(ImageSource):
    """Images that can be read by index, and their boxes.

    Attributes:
        category_ids: COCO ids in the order of the labels 0..K-1; gaps are allowed.
        classes: category names in the same order.
        image_ids: COCO id of every image.
        dropped: annotations that are no targets, counted by reason.
    """

    category_ids: list[int]
    classes: list[str]
    image_ids: list[int]
    dropped: dict[str, int]

    @abstractmethod
    def objects(self, index: int) -> Objects:
        """The objects of image ``index``, crowds among them."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of image ``index`` in pixels.

        Raises:
            ValueError: the source was opened without annotations.
        """

    @property
    def annotations(self) -> str:
        """What is known of the images, in words: "boxes of 80 categories"."""
        count = len(self.category_ids)
        return f"boxes of {count} categories" if count else "no boxes"

    def annotation_bytes(self, indices: NDArray[np.int64]) -> bytes:
        """Boxes, labels, areas and crowds of the images."""
        objects = [self.objects(index) for index in indices.tolist()]
        return b"".join(np.ascontiguousarray(column).tobytes() for o in objects for column in o)

    def target(self, index: int) -> dict[str, Tensor]:
        """Boxes and labels of image ``index``, without crowds; see :class:`DetectionBatch`."""
        objects = self.objects(index)
        single = ~objects.crowd
        return {
            "boxes": torch.from_numpy(objects.boxes[single].astype(np.float32)),
            "labels": torch.from_numpy(objects.labels[single]),
        }

    def ground_truth(self) -> dict[str, Any]:
        """All objects as a COCO dictionary (images, annotations, categories) for the evaluator.

        Raises:
            ValueError: the source was opened without annotations.
        """
        images, annotations = [], []
        for index, image_id in enumerate(self.image_ids):
            height, width = self.size(index)
            images.append({"id": image_id, "height": height, "width": width})
            annotations += self._annotations(index, image_id)
        for number, annotation in enumerate(annotations, start=1):  # evaluators read 0 as no match
            annotation["id"] = number
        named = zip(self.category_ids, self.classes, strict=True)
        categories = [{"id": category, "name": name} for category, name in named]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _annotations(self, index: int, image_id: int) -> list[dict[str, Any]]:
        rows = zip(*(column.tolist() for column in self.objects(index)), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(crowd),
            }
            for (x1, y1, x2, y2), label, area, crowd in rows
        ]


class SubsetDetection(DetectionSource):
    """Some of the images of another source, in the order of ``indices``, with their boxes."""

    def __init__(self, source: DetectionSource, indices: NDArray[np.int64]) -> None:
        self.name, self.in_memory, self.dropped = source.name, source.in_memory, source.dropped
        self.skipped, self.unused = source.skipped, source.unused
        self.category_ids, self.classes = source.category_ids, source.classes
        self.image_ids = [source.image_ids[index] for index in indices]
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
        """The image file of image ``index``."""
        return self.source.encoded(int(self.indices[index]))

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` is called, and its size."""
        return self.source.stored(int(self.indices[index]))

    def objects(self, index: int) -> Objects:
        """The objects of image ``index`` of the subset."""
        return self.source.objects(int(self.indices[index]))

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of image ``index`` of the subset."""
        return self.source.size(int(self.indices[index]))


def subset_detection(source: DetectionSource, count: int, seed: int = 0) -> DetectionSource:
    """A fixed random choice of ``count`` images in source order; all of them if there are fewer.

    Raises:
        ValueError: ``count`` is not positive.
    """
    chosen = subset(source, count, seed)
    return SubsetDetection(source, chosen.indices) if isinstance(chosen, SubsetSource) else source


def check_same_categories(train: DetectionSource, val: DetectionSource) -> None:
    """Check that a label means the same category in both.

    Raises:
        ValueError: a category's id or name is not the same in both.
    """
    ours = dict(zip(train.category_ids, train.classes, strict=True))
    theirs = dict(zip(val.category_ids, val.classes, strict=True))
    if ours != theirs:
        differ = sorted(set(ours.items()) ^ set(theirs.items()))
        shown = ", ".join(f"{category} {name!r}" for category, name in differ[:5])
        raise ValueError(
            f"{val.name}: {len(theirs)} categories that differ from the {len(ours)} of "
            f"{train.name}, among them {shown}; expected the same ids and names in both. Write the "
            "same categories into both annotation files."
        )


class DetectionDataset(Dataset[DetectionBatch]):
    """Batches of decoded images with their boxes; one that cannot be decoded is replaced.

    The next image that can be decoded takes its place, with that image's own boxes.

    Args:
        source: the images and boxes.
        exif: turn images as their EXIF orientation says.
    """

    def __init__(self, source: DetectionSource, exif: bool = True) -> None:
        self.source, self.exif = source, exif

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitems__(self, indices: Sequence[int]) -> DetectionBatch:
        """The batch of ``indices``.

        Raises:
            DecodeError: an image and the thousand after it, or all, cannot be decoded.
        """
        found = [read_or_next(self.source, index, self._read) for index in indices]
        numbers = torch.tensor([(used, failed) for _, used, failed in found], dtype=torch.int64)
        targets = [self.source.target(used) for _, used, _ in found]
        return DetectionBatch([image for image, _, _ in found], targets, *numbers.unbind(1))

    def _read(self, index: int) -> Tensor:
        image: Tensor = TF.pil_to_tensor(self.source.open(index, exif=self.exif).load())
        return image


class DetectionLoader(PositionedLoader[DetectionBatch]):
    """A loader of :class:`DetectionBatch` whose position in the data can be set."""

    def __iter__(self) -> Iterator[DetectionBatch]:  # type: ignore[override]
        """Iterate over the batches of the position that was set."""
        return super().__iter__()


def make_detection_loader(
    source: DetectionSource,
    batch_size: int,
    *,
    train: bool,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    bad_images: float = 1.0,
    start_method: str | None = None,
    exif: bool = True,
) -> DetectionLoader:
    """Batches of images with boxes, shuffled for training or in order for evaluation.

    Args:
        source: the images and their boxes.
        batch_size: images a batch on this process.
        train: shuffle and drop the last partial batch; else keep the order and drop nothing.
        seed: of the order.
        workers: decoding processes; 0 decodes in this one (best for a source that is in memory).
        rank: number of this process.
        world_size: number of processes; each gets its own share of the images.
        bad_images: share of images that cannot be decoded past which the iteration stops.
        start_method: how workers start ("fork", "spawn", "forkserver"); default the platform's.
        exif: turn images as their EXIF orientation says.

    Raises:
        ValueError: training batch larger than the data set.
    """
    sampler = ResumableBatchSampler(
        len(source), batch_size, train=train, seed=seed, rank=rank, world_size=world_size
    )
    dataset = DetectionDataset(source, exif)
    return DetectionLoader(
        dataset,
        sampler,
        guard=make_guard(source, bad_images, train=train, exif=exif),
        seed=seed,
        workers=workers,
        start_method=start_method,
        lasting=train,
    )
