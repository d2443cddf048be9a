"""Loaders of a run: each process takes its share of every batch."""

from mgd_ssl.data import (
    Cropping,
    ImageLoader,
    ImageSource,
    Store,
    decoding_workers,
    make_loader,
)
from mgd_ssl.data.loading import LoadingOptions
from mgd_ssl.data.sampling import Blocks
from mgd_ssl.fabric import Fabric
from mgd_ssl.settings.run import RunConfig

MEASURED = 256  # images that an evaluation decodes at once, over all processes


def build_loader(
    config: RunConfig,
    fabric: Fabric,
    source: ImageSource,
    *,
    train: bool = False,
    size: int | None = None,
    crops: Cropping | None = None,
    store: Store | None = None,
) -> ImageLoader:
    """Batches of a source, this rank's share.

    Args:
        config: of the run.
        fabric: its processes.
        source: the images.
        train: shuffled, in whole batches.
        size: side in pixels of the evaluation's centers, which are cut without ``crops``. Default:
            the student's.
        crops: what is cut of each image.
        store: what is stored of the crops, which goes with them.
    """
    options = loader_options(config, fabric, source, train=train)
    return make_loader(
        source,
        size or config.loader.size,
        images_per_process(config, fabric),
        crops=crops,
        exif=config.loader.exif,
        store=store,
        **options,
    )


def loader_options(
    config: RunConfig, fabric: Fabric, source: ImageSource, *, train: bool
) -> LoadingOptions:
    """Options of a run's loaders on this process, of images with or without boxes."""
    blocks = config.loader.shuffle_blocks
    return {
        "train": train,
        "seed": config.seed,
        "workers": 0 if source.in_memory else decoding_workers(config.loader.workers),
        "rank": fabric.global_rank,
        "world_size": fabric.world_size,
        "bad_images": config.loader.bad_images if train else 1.0,
        "blocks": Blocks(blocks) if train and blocks else None,
    }


def images_per_process(config: RunConfig, fabric: Fabric) -> int:
    """Images of a step on each process.

    Raises:
        ValueError: the batch is not divisible by the processes.
    """
    batch, processes = config.optim.batch_size, int(fabric.world_size)
    if not batch:  # of an evaluation: a run finds its batch before
        return max(MEASURED // processes, 1)
    if batch % processes:
        raise ValueError(
            f"batch_size: got {batch} on {processes} processes, expected a multiple of them; "
            f"--batch-size {max(1, batch // processes) * processes}"
        )
    return batch // processes
