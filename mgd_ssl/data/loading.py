"""From a source to batches of uint8 canvases: decoding, resizing, order, position, bad files."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data.sampling import ResumableBatchSampler
from mgd_ssl.data.sources import ImageSource

logger = logging.getLogger(__name__)
MOST_BAD_IN_A_ROW = 1000


@dataclass(frozen=True)
class Sample:
    """One image (3, crop, crop) uint8, its label (-1 unknown), its index, and which failed (-1)."""

    image: Tensor
    label: int
    index: int
    failed: int


class Batch(NamedTuple):
    """Images (B, 3, S, S) uint8; labels, indices, failed indices (B,) int64, -1 for none."""

    images: Tensor
    labels: Tensor
    indices: Tensor
    failed: Tensor


class DecodeError(ValueError):
    """Too many files of a source cannot be decoded."""

    def __init__(self, message: str) -> None:
        # a loader raises a worker's error again with the worker's traceback before the message
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].rstrip())


def canvas_size(size: int) -> int:
    """Shorter side that images are resized to before they are cropped to ``size``.

    256 for 224, in proportion for other sizes; small images (below 96 pixels) keep their size.
    """
    return size if size < 96 else round(size * 256 / 224)


def resize_and_crop(images: Tensor, resize: int, crop: int) -> Tensor:
    """Resize the shorter side to ``resize`` (bilinear, antialiased), then crop the centre.

    Args:
        images: (..., 3, H, W) uint8.
        resize: shorter side in pixels after resizing.
        crop: side of the square in pixels, at most ``resize``.
    """
    if min(images.shape[-2:]) != resize:
        images = TF.resize(images, [resize], antialias=True)
    cropped: Tensor = TF.center_crop(images, [crop, crop])
    return cropped


class CanvasDataset(Dataset[Sample]):
    """Decoded images of one size; one that cannot be decoded is replaced by the next that can.

    Args:
        source: the images.
        resize: shorter side in pixels after resizing.
        crop: side in pixels of the square cut from the centre, at most ``resize``.

    Raises:
        ValueError: ``crop`` larger than ``resize``, or not positive.
    """

    def __init__(self, source: ImageSource, resize: int, crop: int) -> None:
        if not 0 < crop <= resize:
            raise ValueError(
                f"crop of {crop} pixels from images resized to {resize}; expected 0 < crop <= "
                "resize. Make the canvas at least as large as the crop."
            )
        self.source, self.resize, self.crop = source, resize, crop

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index``, or the next that can be decoded with ``failed`` set to ``index``.

        Raises:
            DecodeError: this image and the thousand after it, or all, cannot be decoded.
        """
        errors: list[str] = []
        for step in range(min(MOST_BAD_IN_A_ROW, len(self))):
            used = (index + step) % len(self)
            try:
                image = TF.pil_to_tensor(self.source.read(used))
            except Exception as error:  # decoders raise anything on damaged files
                errors.append(f"{self.source.describe(used)} ({type(error).__name__}: {error})")
                continue
            labels = self.source.labels
            label = -1 if labels is None else int(labels[used])
            canvas = resize_and_crop(image, self.resize, self.crop)
            return Sample(canvas, label, used, index if errors else -1)
        raise DecodeError(
            f"{len(errors)} images in a row cannot be decoded, among them {', '.join(errors[:3])}; "
            "expected image files that Pillow reads. Check the data folder."
        )

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch; images of one array are resized together."""
        wanted = np.asarray(indices, dtype=np.int64)
        array = self.source.read_array(wanted)
        if array is not None:
            return self._from_array(array, wanted)
        samples = [self[index] for index in indices]
        numbers = torch.tensor([(sample.label, sample.index, sample.failed) for sample in samples])
        return Batch(torch.stack([sample.image for sample in samples]), *numbers.unbind(1))

    def _from_array(self, array: NDArray[np.uint8], indices: NDArray[np.int64]) -> Batch:
        images = torch.from_numpy(array)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        canvas = resize_and_crop(images, self.resize, self.crop).expand(-1, 3, -1, -1)
        none = torch.full((len(indices),), -1)
        labels = self.source.labels
        found = none if labels is None else torch.from_numpy(labels[indices])
        return Batch(canvas.contiguous(), found, torch.from_numpy(indices), none)


class CanvasLoader(DataLoader[Sample]):
    """A loader of :class:`Batch` whose position in the data can be set."""

    def set_position(self, epoch: int, start_step: int = 0) -> None:
        """Make the next iteration that of ``epoch``, without its first ``start_step`` batches."""
        sampler = self.batch_sampler
        assert isinstance(sampler, ResumableBatchSampler)
        sampler.set_position(epoch, start_step)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterate over the batches of the position that was set."""
        return super().__iter__()


def make_loader(
    source: ImageSource,
    size: int,
    batch_size: int,
    *,
    train: bool,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    resize: int | None = None,
    crop: int | None = None,
    start_method: str | None = None,
) -> CanvasLoader:
    """Batches of canvases, shuffled for training or in order for evaluation.

    In training the canvas is square of side ``resize``, from which views are cut on the device;
    in evaluation it is the centre crop of side ``size``.

    Args:
        source: the images.
        size: side in pixels of what the network sees.
        batch_size: images a batch on this process.
        train: shuffle and drop the last partial batch; else keep the order and drop nothing.
        seed: of the order.
        workers: decoding processes; 0 decodes in this one (best for a source that is in memory).
        rank: number of this process.
        world_size: number of processes; each gets its own share of the images.
        resize: shorter side in pixels after resizing; default :func:`canvas_size` of ``size``.
        crop: side in pixels of the canvas; default ``resize`` in training, ``size`` in evaluation.
        start_method: how workers start ("fork", "spawn", "forkserver"); default the platform's.

    Raises:
        ValueError: training batch larger than the data set, or sizes that do not fit.
    """
    resize = resize or canvas_size(size)
    crop = crop or (resize if train else size)
    sampler = ResumableBatchSampler(
        len(source), batch_size, train=train, seed=seed, rank=rank, world_size=world_size
    )
    return CanvasLoader(
        CanvasDataset(source, resize, crop),
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=start_method if workers else None,
        # a generator of its own: the global one, which views are drawn from, must not be touched
        generator=torch.Generator().manual_seed(seed),
    )


def _as_it_is(batch: Any) -> Any:
    """Collate nothing: :meth:`CanvasDataset.__getitems__` returns whole batches."""
    return batch


class DecodeGuard:
    """Names and counts the files that were replaced, and stops a run that replaces too many.

    The share is judged against max(images seen, min(images in the source, 1000)), so that one bad
    file in the first batch of a large set does not stop the run, and one of fifty does.

    Args:
        source: where indices are looked up.
        limit: largest share of bad images, in [0, 1].
    """

    def __init__(self, source: ImageSource, limit: float = 0.01) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"limit of undecodable images {limit}; expected a share in [0, 1].")
        self.source, self.limit = source, limit
        self.seen = self.failures = 0
        self._named: dict[int, str] = {}

    def check(self, batch: Batch) -> None:
        """Count ``batch``, best before it goes to the device.

        Raises:
            DecodeError: more than ``limit`` of the images were replaced.
        """
        self.seen += len(batch.failed)
        for index in batch.failed[batch.failed >= 0].tolist():
            self.failures += 1
            if index not in self._named:
                self._named[index] = self.source.describe(index)
                logger.warning("cannot be decoded, replaced: %s", self._named[index])
        judged = max(self.seen, min(len(self.source), 1000))
        if self.failures > self.limit * judged:
            names = ", ".join(list(self._named.values())[:5])
            raise DecodeError(
                f"{self.failures} of {self.seen} images cannot be decoded, among them {names}; "
                f"expected at most {self.limit:.1%}. Remove or repair them, or raise the limit."
            )
