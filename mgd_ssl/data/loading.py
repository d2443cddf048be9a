"""From a source to batches of uint8 images of one size: order, position."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Required, TypedDict, Unpack, cast

import torch
from torch.utils.data import DataLoader

from mgd_ssl.data.bad_files import Checked, make_guard
from mgd_ssl.data.batches import Batch, tensors
from mgd_ssl.data.cropping import CenterCrop, Cropping
from mgd_ssl.data.datasets import AnyBatch, ImageDataset, SourceDataset, Store
from mgd_ssl.data.sampling import Blocks, ResumableBatchSampler
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.data.workers import (
    decoding_workers,
    free_shared_memory,
    initialize_worker,
    stop_signals_blocked,
    workers_that_fit,
)


class LoadingOptions(TypedDict, total=False):
    """Options of any loader; see :class:`PositionedLoader`."""

    train: Required[bool]
    seed: int
    workers: int
    rank: int
    world_size: int
    bad_images: float
    start_method: str | None
    blocks: Blocks | None


class WholeBatches(DataLoader[Any], Generic[AnyBatch]):
    """A loader of a dataset's own batches.

    Args:
        dataset: reads the batches.
        batches: indices of the images of each; may be gone through again.
        workers: decoding processes; 0 decodes in this one. Fewer where shared memory is short.
        seed: of what workers draw.
        options: of torch's loader.
    """

    def __init__(
        self,
        dataset: SourceDataset[AnyBatch],
        batches: Iterable[Sequence[int]],
        workers: int,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # lists, of which Indices are some
            collate_fn=whole_batch,
            num_workers=workers,
            worker_init_fn=initialize_worker,
            pin_memory=torch.cuda.is_available(),
            # a generator of its own: the global one, which views are drawn from, stays untouched
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    @property
    def ahead(self) -> int:
        """Batches that are decoded ahead of the one that is taken."""
        return self.num_workers * (self.prefetch_factor or 0)

    def __iter__(self) -> Iterator[AnyBatch]:  # type: ignore[override]
        """Iterate over the batches."""
        if self.num_workers and self._iterator is None:
            self.num_workers = self._workers_that_fit()
        with stop_signals_blocked():
            return super().__iter__()

    def _workers_that_fit(self) -> int:
        """As many workers as shared memory has room for, judged by one image."""
        free = free_shared_memory()
        first = next(iter(self.batch_sampler or ()), None)
        if not first or free == float("inf"):
            return self.num_workers
        try:
            image = cast(Any, self.dataset).__getitems__(first[:1])
        except ValueError:  # nothing can be decoded: raised again where it is to be
            return self.num_workers
        batch_bytes = len(first) * sum(t.nbytes for t in tensors(image))
        return workers_that_fit(self.num_workers, batch_bytes, self.prefetch_factor or 1, free)


class PositionedLoader(WholeBatches[AnyBatch]):
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
            ResumableBatchSampler(
                len(dataset),
                batch_size,
                train=train,
                seed=seed,
                rank=rank,
                world_size=world_size,
                blocks=blocks,
            ),
            workers,
            seed,
            persistent_workers=train and workers > 0,
            multiprocessing_context=start_method if workers else None,
        )
        self.guard = make_guard(dataset.source, bad_images, train=train, exif=dataset.exif)

    def __iter__(self) -> Iterator[AnyBatch]:  # type: ignore[override]
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
    **options: Unpack[LoadingOptions],
) -> ImageLoader:
    """Batches of images, shuffled for training or in order for evaluation.

    Args:
        source: the images.
        size: side in pixels of what the network sees.
        batch_size: images a batch on this process.
        crops: random crops to cut; without them the evaluation's, :meth:`CenterCrop.of` ``size``.
        exif: turn images as their EXIF orientation says.
        store: what is stored of the crops.
        options: of :class:`PositionedLoader`; ``train`` is required.

    Raises:
        ValueError: training batch larger than the data set.
    """
    dataset = ImageDataset(source, crops or CenterCrop.of(size), exif, store)
    return ImageLoader(dataset, batch_size, **options)


def listed_batches(
    dataset: ImageDataset, batches: Iterable[Sequence[int]], workers: int
) -> WholeBatches[Batch]:
    """A loader of the batches of these images, in this order.

    Args:
        dataset: reads the batches.
        batches: indices of the images of each; may be gone through again.
        workers: decoding processes at most; images in memory need none.
    """
    used = 0 if dataset.source.in_memory else decoding_workers(workers)
    return WholeBatches(dataset, batches, used)
