"""Loaders of a run: each process takes its share of every batch."""

from collections.abc import Iterator
from itertools import islice
from typing import cast

from lightning.fabric import Fabric
from torch import Tensor

from mgd_ssl.data import (
    ImageLoader,
    ImageSource,
    RandomCrops,
    decoding_workers,
    make_loader,
    subset,
)
from mgd_ssl.data.views import to_unit
from mgd_ssl.settings.run import RunConfig

CALIBRATION_BATCHES = 8


def load_loader(
    config: RunConfig,
    fabric: Fabric,
    source: ImageSource,
    *,
    train: bool = False,
    crops: RandomCrops | None = None,
) -> ImageLoader:
    """Batches of a source, this rank's share; without ``crops`` the evaluation's centres."""
    return make_loader(
        source,
        cast(int, config.loader.size),
        share(config, fabric),
        train=train,
        crops=crops,
        seed=config.seed,
        workers=0 if source.in_memory else decoding_workers(config.loader.workers),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        exif=config.loader.exif,
        bad_images=config.loader.bad_images if train else 1.0,
    )


def unit_images(
    config: RunConfig, fabric: Fabric, source: ImageSource, epoch: int
) -> Iterator[Tensor]:
    """(B,3,S,S) in [0,1] on the device: a random choice that differs by epoch, nothing else."""
    count = cast(int, config.mgd.mgd_update_images)
    chosen = subset(source, count, config.seed + epoch)
    for batch in load_loader(config, fabric, chosen):
        yield to_unit(fabric.to_device(batch.images))


def first_images(config: RunConfig, fabric: Fabric, source: ImageSource) -> Iterator[Tensor]:
    """(B,3,S,S) in [0,1] on the device: centres of the first steps' images, of whole batches."""
    loader = load_loader(config, fabric, source, train=True)
    for batch in islice(loader, CALIBRATION_BATCHES):
        yield to_unit(fabric.to_device(batch.images))


def share(config: RunConfig, fabric: Fabric) -> int:
    """Images of a step on each process.

    Raises:
        ValueError: the batch is not divisible by the processes.
    """
    batch, processes = cast(int, config.optim.batch_size), int(fabric.world_size)
    if batch % processes:
        raise ValueError(
            f"batch_size: got {batch} on {processes} processes, expected a multiple of them; "
            f"--batch-size {max(1, batch // processes) * processes}"
        )
    return batch // processes
