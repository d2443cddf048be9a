"""Batches of images with boxes."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data.bad_files import read_or_next
from mgd_ssl.data.datasets import SourceDataset
from mgd_ssl.data.loading import LoadingOptions, PositionedLoader
from mgd_ssl.detection.sources import DetectionSource


class DetectionBatch(NamedTuple):
    """Images and boxes of a step, as torchvision's detectors take them.

    Attributes:
        images: B images (3, H, W) uint8, each of its own size.
        targets: "boxes" and "labels" of each image; see `DetectionSource.target`.
        indices: (B,) int64 position in the source.
        failed: (B,) int64 index of the image that was replaced, -1 where it could be decoded.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    indices: Tensor
    failed: Tensor


class DetectionDataset(SourceDataset[DetectionBatch]):
    """Batches of decoded images with their boxes; one that cannot be decoded is replaced.

    The next image that can be decoded takes its place, with that image's own boxes.
    """

    source: DetectionSource

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


DetectionLoader = PositionedLoader[DetectionBatch]


def make_detection_loader(
    source: DetectionSource,
    batch_size: int,
    *,
    exif: bool = True,
    **options: Unpack[LoadingOptions],
) -> DetectionLoader:
    """Batches of images with boxes, shuffled for training or in order for evaluation.

    Args:
        source: the images and their boxes.
        batch_size: images a batch on this process.
        exif: turn images as their EXIF orientation says.
        options: of :class:`PositionedLoader`; ``train`` is required.

    Raises:
        ValueError: training batch larger than the data set.
    """
    return DetectionLoader(DetectionDataset(source, exif), batch_size, **options)
