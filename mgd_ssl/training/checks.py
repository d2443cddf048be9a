"""What can be known of data, batch and teacher before the first step is checked before it."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
from torch import Tensor, nn

from mgd_ssl.data import ImageSource, make_loader, spread_out, subset
from mgd_ssl.data.bad_files import reason_undecodable
from mgd_ssl.data.views import to_unit
from mgd_ssl.models import Taps, naming_size, pool, probe
from mgd_ssl.settings.run import OptimizerOptions, RunConfig
from mgd_ssl.tasks.task import Task, Teacher
from mgd_ssl.training.logging import logger

Config = TypeVar("Config", bound=RunConfig)
FEW, MOST = 32, 256  # images of a batch that is found, where there are enough
STEPS = 2000  # that it leaves a run, if it can; docs/log.md
TRIED = 32  # images of a source
SHOWN = 8  # to a teacher
ENLARGED = 2  # times the side of the images
RATE_OF_SGD = 0.03  # MoCo v2's; no other optimizer has one as large by default
CONSTANT = 1e-6  # of the largest feature


def check_readable(source: ImageSource, use: str, exif: bool = True) -> None:
    """Refuse a source of which not one image, of some all over it, can be decoded.

    Raises:
        ValueError: names the source, what it is for, and an image with the reason.
    """
    places = spread_out(len(source), TRIED)
    for index in places:
        try:
            source.open(index, exif=exif).load()
        except Exception:  # decoders raise anything on damaged files
            continue
        return
    first = f"{source.describe(0)} ({reason_undecodable(source, 0, exif)})"
    raise ValueError(
        f"{source.name}: got {len(places)} images for {use} of which none can be decoded, among "
        f"them {first}; expected image files that Pillow reads. Repair or remove them"
    )


def check_enlarged(source: ImageSource, size: int) -> None:
    """Warn where most images are much smaller than what the networks see of them.

    Args:
        source: training images.
        size: side of the views in pixels.
    """
    sides = list[int]()
    for index in spread_out(len(source), TRIED):
        with suppress(Exception):  # decoders raise anything on damaged files
            sides.append(min(source.open(index).size))
    side = int(np.median(sides)) if sides else size
    if size >= ENLARGED * side:
        logger.warning(
            "images of %d pixels are enlarged to %d: %.0f times the work for the same content; "
            "give --size %d, and --teacher-size %d if the teacher needs it",
            *(side, size, (size / side) ** 2, side, size),
        )


def with_batch(config: Config, source: ImageSource, processes: int) -> Config:
    """The settings with a batch size that suits the training images, if they name none.

    Args:
        config: of the run.
        source: of the training images.
        processes: of the run.

    Raises:
        ValueError: the images do not fill the batch, or its parts do not divide it; names a batch
            size that fits.
    """
    images, parts = len(source), processes * config.optim.accumulate
    if not config.optim.batch_size:
        found = fitting_batch(images, config.optim.epochs, parts)
        config = replace(config, optim=replace(config.optim, batch_size=found))
    batch = config.optim.batch_size
    if config.optim.accumulate > 1 and batch % parts:
        raise ValueError(
            f"batch_size: got {batch} on {processes} processes in {config.optim.accumulate} parts, "
            f"expected a multiple of {parts}; give --batch-size {max(1, batch // parts) * parts}, "
            "or change --accumulate"
        )
    if batch > images and images < 2 * parts:
        raise ValueError(
            f"data: got {images} image{'s' * (images != 1)} to train on, expected {2 * parts} or "
            "more, two in each part of a batch; add images"
        )
    if batch > images:
        raise ValueError(
            f"batch_size: got {batch} and {images} images to train on, expected no more than there "
            f"are; give --batch-size {_power_of_two(images, parts)}, for example, or more images"
        )
    return config


def fitting_batch(images: int, epochs: int, parts: int) -> int:
    """The largest power of two with which a run has enough steps; a multiple of the parts."""
    wanted = min(max(images * epochs // STEPS, FEW), MOST, max(images // 4, min(images, 8)))
    return _power_of_two(wanted, parts)


def _power_of_two(most: int, parts: int) -> int:
    """The largest that is no more, a multiple of the parts; queues and split norms need such."""
    return max((1 << (most.bit_length() - 1)) // parts, 1) * parts


def check_queue(queue: int, batch: int, source: ImageSource) -> None:
    """Warn of a queue that holds an image's own keys among what it is told apart from."""
    images = len(source)
    if queue > images:
        logger.warning(
            "moco_k: a queue of %d keys over %d training images holds each image up to %d times, "
            "as its own negative; --moco-k %d would not",
            *(queue, images, -(-queue // images), max(1, images // batch) * batch),
        )


def check_rate(optim: OptimizerOptions) -> None:
    """Warn of a rate that is meant for another optimizer."""
    if optim.optimizer != "sgd" and optim.lr >= RATE_OF_SGD:
        logger.warning(
            "lr: %g is a rate of SGD, and too large for --optimizer %s; add --optimizer sgd, or "
            "leave --lr out, for a rate that suits the number of steps",
            *(optim.lr, optim.optimizer),
        )


def check_norms(task: Task, size: int, images: int, fitting: int) -> None:
    """Refuse batches that leave a batch norm one value a channel.

    Args:
        task: what is trained.
        size: side of the images in pixels.
        images: that a batch norm sees at once: of a process, of a split.
        fitting: the least batch size that leaves two.

    Raises:
        ValueError: some norm would have no variance to take.
    """
    if images > 1:
        return
    norms = sum(isinstance(m, nn.BatchNorm1d) for m in _heads(task))
    norms += _of_one_pixel(task.student, size)
    if norms:
        raise ValueError(
            f"batch_size: {norms} batch norms would see one image, of one value a channel, at a "
            f"time, expected two or more; give --batch-size {fitting}, or fewer --bn-splits or "
            "processes"
        )


def _heads(task: Task) -> Iterator[nn.Module]:
    loss = getattr(task, "loss", None)
    return loss.modules() if loss is not None else iter(())


def _of_one_pixel(network: nn.Module, size: int) -> int:
    """How many of a network's batch norms see maps of 1×1 pixel."""
    seen: list[int] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0][0, 0].numel())

    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        probe(network, Taps([]), size)
    finally:
        for handle in handles:
            handle.remove()
    return seen.count(1)


def check_teacher(
    teacher: Teacher, size: int, source: ImageSource, exif: bool = True, seed: int = 0
) -> None:
    """Show the teacher some training images, and refuse one that says nothing of them.

    Args:
        teacher: on the CPU.
        size: side of the images in pixels.
        source: the images.
        exif: turn images as their EXIF orientation says.
        seed: of the choice of images.

    Raises:
        ValueError: it takes no images of that size, or has no features, or such as are not finite
            or the same for all images.
    """
    sample = subset(source, SHOWN, seed)
    loader = make_loader(sample, size, SHOWN, train=False, exif=exif, bad_images=1.0)
    images = to_unit(next(iter(loader)).images)
    with naming_size(teacher.network, teacher.size or size, "--teacher-size"):
        features = pool(teacher(images)[1]).float()
    finite = features.isfinite().all(dim=1)
    if features.shape[1] == 0:
        raise ValueError("teacher: got no features, expected a network with pooled features")
    if not finite.all():
        raise ValueError(
            f"teacher: features: not finite for {int((~finite).sum())} of {len(finite)} training "
            "images, expected finite features; look for a diverged network, and give another "
            "checkpoint to --teacher"
        )
    differ = bool((images != images[0]).any())
    if differ and (features - features[0]).abs().max() <= CONSTANT * features.abs().max():
        raise ValueError(
            f"teacher: got the same features for {len(features)} different images, which teach "
            "nothing, expected a trained network; look at the keys that were matched above, and "
            "give another checkpoint to --teacher"
        )
