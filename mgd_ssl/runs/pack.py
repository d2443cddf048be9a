"""Packing data into shards: what it takes, in parallel, and from where a stopped one goes on."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mgd_ssl.data import (
    ImageSource,
    NoValidationError,
    data_digest,
    data_line,
    decoding_workers,
    open_source,
    open_sources,
)
from mgd_ssl.data.formats import printable
from mgd_ssl.data.packing import Coding, Plan, WrittenShard, is_of_plan, write_shard
from mgd_ssl.data.packing_size import Size, free_bytes, size_of_shards, written_bytes
from mgd_ssl.data.reader import Split
from mgd_ssl.files import WriteError, require_folder, write_text
from mgd_ssl.progress import tracked
from mgd_ssl.runs.output_folder import LOCK, alone, gigabytes
from mgd_ssl.settings.pack import PackConfig
from mgd_ssl.training.logging import logger, start_logging

MANIFEST, CLASSES = "packing.json", "classes.txt"
SHARD_BYTES = 256 * 2**20
MOST_NAMED = 20
Sources = dict[Split, ImageSource]


def run(config: PackConfig) -> None:
    """Write the shards of DATA, or those that are still missing.

    Raises:
        ValueError: the disk is too small, an image cannot be read, the folder holds something else,
            or the labels of the validation images are not those of the training images.
        WriteError: the disk is full.
    """
    start_logging()
    _require_apart(config)
    require_folder(config.out)
    sources = _open(config)
    _require_same_classes(config, sources)
    plans, sizes = _plan(config, sources)
    manifest = _manifest(config, plans)
    _require_same(config.out, manifest)
    _require_room(config.out, plans, sizes)
    with alone(config.out, "packs"):
        _begin(config.out, manifest, sources["train"].classes)
        for plan in plans:
            _pack(plan, decoding_workers(config.workers))
    _finish(config, sources)


def _require_apart(config: PackConfig) -> None:
    out = config.out.resolve()
    if any(data.resolve() in (out, *out.parents) for data in config.data):
        raise ValueError(f"out: got {config.out}, which is in DATA; expected another folder")


def _open(config: PackConfig) -> Sources:
    """The parts of the data."""
    sources: Sources = {"train": open_sources(config.data, "train", **config.opening)}
    for name in sources["train"].classes or ():
        if len(name.splitlines()) != 1:
            raise ValueError(f"class {name!r}: a line break in its name; expected none. Rename it.")
    try:
        sources["val"] = open_sources(config.data, "val", **config.opening)
    except NoValidationError:
        logger.info("no validation images: only the training images are packed")
    uses = {"train": "training", "val": "validation"}
    logger.info("%s", data_line({uses[split]: source for split, source in sources.items()}))
    return sources


def _require_same_classes(config: PackConfig, sources: Sources) -> None:
    """Refuse labels of validation images that the shards could not hold.

    Raises:
        ValueError: the training images have no labels, or classes of other names.
    """
    train, val = sources["train"], sources.get("val")
    if val is None or val.labels is None:
        return
    if train.labels is None:
        raise ValueError(
            f"data: {val.name} has labels, {train.name} has none; expected labels in both, or in "
            f"neither. {_why_unlabeled(config)}"
        )
    known = dict(enumerate(train.classes or ()))
    for number, name in enumerate(val.classes or ()):
        if known and name != known.get(number):
            raise ValueError(
                f"data: class {number} is {name} in {val.name}, {known.get(number, 'none')} in "
                f"{train.name}; expected the same classes in both. Write the labels anew."
            )


def _why_unlabeled(config: PackConfig) -> str:
    """What keeps the training images from having labels, as commands say it that need them."""
    try:
        open_sources(config.data, "train", labeled=True, **config.opening)
    except ValueError as error:
        return str(error)
    return "Add the labels."


def _plan(config: PackConfig, sources: Sources) -> tuple[list[Plan], list[Size]]:
    """Which image goes into which shard, and how much disk that takes."""
    coding = Coding(config.size, config.quality)
    plans = [Plan(s, config.out / split, len(s), coding) for split, s in sources.items()]
    sizes = [size_of_shards(plan) for plan in plans]
    images, total = sum(map(len, sources.values())), sum(size.total for size in sizes)
    per_shard = config.shard_images or max(1, SHARD_BYTES * images // total)
    return [replace(plan, per_shard=min(per_shard, len(plan.source))) for plan in plans], sizes


def _manifest(config: PackConfig, plans: Sequence[Plan]) -> dict[str, Any]:
    """What the shards are made from: the same gives the same bytes."""
    parts = {
        plan.folder.name: {
            "images": len(plan.source),
            "digest": data_digest(plan.source),
            "images_per_shard": plan.per_shard,
        }
        for plan in plans
    }
    return {"parts": parts, "size": config.size, "quality": config.quality}


def _require_same(out: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but shards of the same images and options.

    Raises:
        ValueError: says what helps.
    """
    file = out / MANIFEST
    if file.is_file():
        if json.loads(file.read_text("utf-8")) != manifest:
            raise ValueError(
                f"out: {out} holds shards of other images, or made with other options; expected "
                "the same to go on with them. Name another folder with --out, or delete it."
            )
    elif out.is_dir() and any(file.name != LOCK for file in out.iterdir()):
        raise ValueError(f"out: {out} is not empty; expected a new folder. Name one with --out.")


def _begin(out: Path, manifest: dict[str, Any], classes: list[str] | None) -> None:
    """Say in the folder what is packed there, and how the classes are called."""
    if classes is not None:
        write_text(out / CLASSES, "".join(f"{name}\n" for name in classes))
    write_text(out / MANIFEST, json.dumps(manifest, indent=1))


def _require_room(out: Path, plans: Sequence[Plan], sizes: Sequence[Size]) -> None:
    """Say what will be written, and refuse where it does not fit.

    Raises:
        ValueError: the disk is too small.
    """
    shards, images = sum(map(len, plans)), sum(len(plan.source) for plan in plans)
    total, free = sum(size.total for size in sizes), free_bytes(out)
    there = sum(written_bytes(plan.folder) for plan in plans)
    about = "" if all(size.known for size in sizes) else "about "
    logger.info(
        "%s: %s images in %d shard%s, %s%s%s; %s of the disk is free",
        *(out, f"{images:,}", shards, "s" * (shards != 1), about, gigabytes(total)),
        *(f", of which {gigabytes(there)} is there" if there else "", gigabytes(free)),
    )
    needed = sum(size.needed for size in sizes) - there
    if needed > free:
        raise ValueError(
            f"out: {out} needs {gigabytes(needed)}, and {gigabytes(free)} of the disk is free; "
            "expected more. Name a folder on another disk with --out, or pack smaller images with "
            "--size."
        )


def _pack(plan: Plan, workers: int) -> None:
    """Write the shards that are missing, several at once."""
    for file in plan.folder.glob(".*.tar.*.tmp"):
        file.unlink()  # of a command that was killed
    with ThreadPoolExecutor(workers) as pool:
        whole = list(pool.map(lambda number: is_of_plan(plan, number), range(len(plan))))
        missing = [number for number, done in enumerate(whole) if not done]
        if any(whole):
            logger.info("%s: %d of %d shards are there", plan.folder, sum(whole), len(plan))
        stop = threading.Event()
        shards = [pool.submit(write_shard, plan, number, stop.is_set) for number in missing]
        with _stopped_with(stop, shards, plan):
            _follow(plan, shards, missing)


@contextmanager
def _stopped_with(
    stop: threading.Event, shards: Sequence["Future[WrittenShard]"], plan: Plan
) -> Iterator[None]:
    """Whatever ends the packing ends all threads, and says how far they came."""
    try:
        yield
    except BaseException as error:
        stop.set()
        for shard in shards:
            shard.cancel()
        finished = [s for s in shards if not s.cancelled() and s.exception() is None]
        kept = len(plan) - len(shards) + len(finished)
        said = f"{kept} of {len(plan)} shards of {plan.folder} are whole and stay"
        logger.warning("%s; the same command goes on with them", said)
        raise error


def _follow(plan: Plan, shards: Sequence["Future[WrittenShard]"], missing: Sequence[int]) -> None:
    """Wait for the shards, and say how far they are and what could not be decoded."""
    undecodable: list[int] = []
    images = sum(len(plan.images(number)) for number in missing)
    packed = (shard.result() for shard in as_completed(shards))
    for shard in tracked(packed, f"{plan.folder}", images, count=lambda shard: shard.images):
        undecodable += shard.undecodable
    for index in sorted(undecodable)[:MOST_NAMED]:
        logger.warning(
            "cannot be decoded, kept as it is: %s", printable(plan.source.describe(index))
        )
    if undecodable:
        logger.warning("%d images cannot be decoded and are kept as they are", len(undecodable))


def _finish(config: PackConfig, sources: Sources) -> None:
    """Make the index, and compare what the shards say with the data once more.

    Raises:
        WriteError: they say something else.
    """
    for split, source in sources.items():
        packed = open_source(config.out, split)
        same = len(packed) == len(source) and (
            source.labels is None
            or (packed.labels is not None and np.array_equal(source.labels, packed.labels))
        )
        if not same:
            raise WriteError(f"{config.out}/{split} does not read back as {source.name}")
        size = written_bytes(config.out / split)
        logger.info("%s/%s: %s images, %s", config.out, split, f"{len(packed):,}", gigabytes(size))
    logger.info("packed: python pretrain.py %s", config.out)
