"""From a source to batches of uint8 images of one size: order, position."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, Required, TypedDict, TypeVar, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mgd_ssl.data.bad_files import Checked, make_guard, read_or_next
from mgd_ssl.data.batches import Batch, Sample
from mgd_ssl.data.cropping import CenterCrop, Cropping, Draws, shorter_side
from mgd_ssl.data.sampling import Blocks, Indices, ResumableBatchSampler
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.data.workers import (
    free_shared_memory,
    initialize_worker,
    stop_signals_blocked,
    tensor_bytes,
    workers_that_fit,
)

AnyBatch = TypeVar("AnyBatch", covariant=True)
LARGEST_AT_ONCE = 128  # side in pixels of an array's images that are cut together


class Store(Protocol):
    """Something that is stored of images' crops."""

    def read(self, epoch: int, images: NDArray[np.int64]) -> dict[str, Tensor]:
        """Of B images' V crops in an epoch: name -> (B, V, ...)."""


class SourceDataset(Dataset[Any], ABC, Generic[AnyBatch]):
    """Whole batches of a source's images, which subclasses read in ``__getitems__``.

    Args:
        source: the images.
        exif: turn images as their EXIF orientation says.
    """

    def __init__(self, source: ImageSource, exif: bool = True) -> None:
        self.source, self.exif = source, exif

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        """The batch of ``indices``."""


class ImageDataset(SourceDataset[Batch]):
    """Images cut to one size; one that cannot be decoded is replaced by the next that can.

    Args:
        source: the images.
        cropping: what is cut from them.
        exif: turn images as their EXIF orientation says.
        store: what is stored of the crops, which goes with them.
    """

    def __init__(
        self,
        source: ImageSource,
        cropping: Cropping,
        exif: bool = True,
        store: Store | None = None,
    ) -> None:
        super().__init__(source, exif)
        self.cropping, self.store = cropping, store
        first = source.read_array(np.zeros(1, dtype=np.int64))
        self.at_once = first is not None and max(first.shape[1:3]) <= LARGEST_AT_ONCE

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` in epoch 0; see :meth:`__getitems__`."""
        return self._sample(index, self._draw(0, index), 0)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch of the epoch that :class:`Indices` say, or of epoch 0.

        An image that cannot be decoded is replaced by the next that can, with ``failed`` set to
        the index of the first. Small images of one array are cut together.

        Raises:
            DecodeError: an image and the thousand after it, or all, cannot be decoded.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        epoch = indices.epoch if isinstance(indices, Indices) else 0
        draws = self.cropping.draw(epoch, self.source.in_whole(wanted))
        if self.at_once:
            batch = self._from_array(wanted, draws)
        else:
            batch = self._each(wanted, draws, epoch)
        if self.store is None:
            return batch
        used = self.source.in_whole(batch.indices.numpy())
        return batch._replace(stored=self.store.read(epoch, used))

    def _each(self, indices: NDArray[np.int64], draws: list[Draws], epoch: int) -> Batch:
        each = zip(indices.tolist(), draws, strict=True)
        samples = [self._sample(index, drawn, epoch) for index, drawn in each]
        numbers = torch.tensor([(sample.label, sample.index, sample.failed) for sample in samples])
        labels, used, failed = numbers.unbind(1)
        return Batch(torch.stack([sample.image for sample in samples]), labels, used, failed)

    def _draw(self, epoch: int, index: int) -> Draws:
        return self.cropping.draw(epoch, self.source.in_whole(np.array([index])))[0]

    def _sample(self, index: int, draws: Draws, epoch: int) -> Sample:
        def read(used: int) -> Tensor:
            # what is stored of the replacement is of its own crops
            own = self._draw(epoch, used) if self.store and used != index else draws
            return self.cropping.one(self.source.open(used, exif=self.exif), own)

        image, used, failed = read_or_next(self.source, index, read)
        labels = self.source.labels
        label = -1 if labels is None else int(labels[used])
        return Sample(image, label, used, failed)

    def _from_array(self, indices: NDArray[np.int64], draws: list[Draws]) -> Batch:
        array = self.source.read_array(indices)
        assert array is not None
        images = torch.from_numpy(array)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        none, labels = torch.full((len(indices),), -1), self.source.labels
        found = none if labels is None else torch.from_numpy(labels[indices])
        cropped = self.cropping.many(images, draws).contiguous()
        return Batch(cropped, found, torch.from_numpy(indices), none)


class LoaderOptions(TypedDict, total=False):
    """Options of any loader; see :class:`PositionedLoader`."""

    train: Required[bool]
    seed: int
    workers: int
    rank: int
    world_size: int
    bad_images: float
    start_method: str | None
    blocks: Blocks | None


class PositionedLoader(DataLoader[Any], Generic[AnyBatch]):
    """A loader of whole batches whose position in the data can be set.

    Training keeps its workers from one iteration to the next; an evaluation's end with each.

    Args:
        dataset: reads the batches.
        batch_size: images a batch on this process.
        train: shuffle and drop the last partial batch; else keep the order and drop nothing.
        seed: of the order.
        workers: decoding processes; 0 decodes in this one (best for a source that is in memory).
            Fewer where shared memory is short.
        rank: number of this process.
        world_size: number of processes; each gets its own share of the images.
        bad_images: share of images that cannot be decoded past which the iteration stops.
        start_method: how workers start ("fork", "spawn", "forkserver"); default the platform's.
        blocks: shuffle by blocks, for a disk that is slow to jump; None shuffles everything.

    Raises:
        ValueError: training batch larger than the data set.
    """

    def __init__(
        self,
        dataset: SourceDataset[AnyBatch],
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        bad_images: float = 1.0,
        start_method: str | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=ResumableBatchSampler(
                len(dataset),
                batch_size,
                train=train,
                seed=seed,
                rank=rank,
                world_size=world_size,
                blocks=blocks,
            ),
            collate_fn=whole_batch,
            num_workers=workers,
            persistent_workers=train and workers > 0,
            worker_init_fn=initialize_worker,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=start_method if workers else None,
            # a generator of its own: the global one, which views are drawn from, stays untouched
            generator=torch.Generator().manual_seed(seed),
        )
        self.guard = make_guard(dataset.source, bad_images, train=train, exif=dataset.exif)

    def __iter__(self) -> Iterator[AnyBatch]:  # type: ignore[override]
        """Iterate over the batches of the position that was set.

        Raises:
            DecodeError: more images than the guard allows cannot be decoded.
        """
        if self.num_workers and self._iterator is None:
            self.num_workers = self._workers_that_fit()
        with stop_signals_blocked():
            batches = super().__iter__()
        for batch in batches:
            self.guard.check(cast(Checked, batch))
            yield batch

    def _workers_that_fit(self) -> int:
        """As many workers as shared memory has room for, judged by one image."""
        free = free_shared_memory()
        first = next(iter(self.batch_sampler or ()), None)
        if not first or free == float("inf"):
            return self.num_workers
        try:
            image = tensor_bytes(cast(Any, self.dataset).__getitems__(first[:1]))
        except ValueError:  # nothing can be decoded: raised again where it is to be
            return self.num_workers
        return workers_that_fit(
            self.num_workers, image * len(first), self.prefetch_factor or 1, free
        )

    def set_position(self, epoch: int, start_step: int = 0) -> None:
        """Make the next iteration that of ``epoch``, without its first ``start_step`` batches."""
        sampler = self.batch_sampler
        assert isinstance(sampler, ResumableBatchSampler)
        sampler.set_position(epoch, start_step)


def whole_batch(batch: Any) -> Any:
    """Collate nothing: the dataset's ``__getitems__`` returns whole batches."""
    return batch


ImageLoader = PositionedLoader[Batch]


def make_loader(
    source: ImageSource,
    size: int,
    batch_size: int,
    *,
    crops: Cropping | None = None,
    exif: bool = True,
    store: Store | None = None,
    **options: Unpack[LoaderOptions],
) -> ImageLoader:
    """Batches of images, shuffled for training or in order for evaluation.

    Args:
        source: the images.
        size: side in pixels of what the network sees.
        batch_size: images a batch on this process.
        crops: random crops to cut; without them the evaluation's center crop, of images whose
            shorter side is resized to :func:`shorter_side` of ``size``.
        exif: turn images as their EXIF orientation says.
        store: what is stored of the crops.
        options: of :class:`PositionedLoader`; ``train`` is required.

    Raises:
        ValueError: training batch larger than the data set.
    """
    dataset = ImageDataset(source, crops or CenterCrop(shorter_side(size), size), exif, store)
    return ImageLoader(dataset, batch_size, **options)


def listed_loader(
    dataset: ImageDataset, batches: Sequence[Sequence[int]], workers: int
) -> DataLoader[Any]:
    """The batches of these images, in this order.

    Args:
        dataset: reads the batches.
        batches: indices of the images of each.
        workers: decoding processes; 0 decodes in this one.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # lists, of which Indices are some
        collate_fn=whole_batch,
        num_workers=workers,
        worker_init_fn=initialize_worker,
        pin_memory=torch.cuda.is_available(),
    )
