"""From a source to batches of uint8 canvases: resizing, order, position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data.bad_files import Checked, DecodeGuard, make_guard, read_or_next
from mgd_ssl.data.sampling import ResumableBatchSampler
from mgd_ssl.data.sources import ImageSource

Item = TypeVar("Item", covariant=True)


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
        exif: turn images as their EXIF orientation says.

    Raises:
        ValueError: ``crop`` larger than ``resize``, or not positive.
    """

    def __init__(self, source: ImageSource, resize: int, crop: int, exif: bool = True) -> None:
        if not 0 < crop <= resize:
            raise ValueError(
                f"crop of {crop} pixels from images resized to {resize}; expected 0 < crop <= "
                "resize. Make the canvas at least as large as the crop."
            )
        self.source, self.resize, self.crop, self.exif = source, resize, crop, exif

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index``, or the next that can be decoded with ``failed`` set to ``index``.

        Raises:
            DecodeError: this image and the thousand after it, or all, cannot be decoded.
        """
        image, used, failed = read_or_next(self.source, index, self._read)
        labels = self.source.labels
        label = -1 if labels is None else int(labels[used])
        return Sample(image, label, used, failed)

    def _read(self, index: int) -> Tensor:
        image = TF.pil_to_tensor(self.source.open(index, exif=self.exif).load())
        return resize_and_crop(image, self.resize, self.crop)

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


class PositionedLoader(DataLoader[Item]):
    """A loader of whole batches whose position in the data can be set.

    Args:
        dataset: its ``__getitems__`` returns a batch.
        sampler: the order of the images.
        seed: of the loader's own generator.
        workers: decoding processes; 0 decodes in this one.
        start_method: how workers start ("fork", "spawn", "forkserver"); default the platform's.
        guard: sees every batch before it goes to the device.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        sampler: ResumableBatchSampler,
        *,
        guard: DecodeGuard,
        seed: int,
        workers: int,
        start_method: str | None,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=start_method if workers else None,
            # a generator of its own: the global one, which views are drawn from, stays untouched
            generator=torch.Generator().manual_seed(seed),
        )
        self.guard = guard

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        """Iterate over the batches of the position that was set.

        Raises:
            DecodeError: more images than the guard allows cannot be decoded.
        """
        for batch in super().__iter__():
            self.guard.check(cast(Checked, batch))
            yield batch

    def set_position(self, epoch: int, start_step: int = 0) -> None:
        """Make the next iteration that of ``epoch``, without its first ``start_step`` batches."""
        sampler = self.batch_sampler
        assert isinstance(sampler, ResumableBatchSampler)
        sampler.set_position(epoch, start_step)


def _as_it_is(batch: Any) -> Any:
    """Collate nothing: the dataset's ``__getitems__`` returns whole batches."""
    return batch


class CanvasLoader(PositionedLoader[Sample]):
    """A loader of :class:`Batch` whose position in the data can be set."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterate over the batches of the position that was set."""
        return cast(Iterator[Batch], super().__iter__())


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
    bad_images: float = 1.0,
    start_method: str | None = None,
    exif: bool = True,
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
        bad_images: share of images that cannot be decoded past which the iteration stops.
        start_method: how workers start ("fork", "spawn", "forkserver"); default the platform's.
        exif: turn images as their EXIF orientation says.

    Raises:
        ValueError: training batch larger than the data set, or sizes that do not fit.
    """
    resize = resize or canvas_size(size)
    crop = crop or (resize if train else size)
    sampler = ResumableBatchSampler(
        len(source), batch_size, train=train, seed=seed, rank=rank, world_size=world_size
    )
    dataset = CanvasDataset(source, resize, crop, exif)
    return CanvasLoader(
        dataset,
        sampler,
        guard=make_guard(source, bad_images, train=train, exif=exif),
        seed=seed,
        workers=workers,
        start_method=start_method,
    )
