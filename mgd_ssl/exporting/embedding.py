"""Features of images in a file: part by part, so that a stopped command goes on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.cache.parts import is_whole, read_part
from mgd_ssl.choices import FEATURE_FILES
from mgd_ssl.data import (
    Batch,
    CenterCrop,
    ConcatSource,
    ImageDataset,
    ImageSource,
    NoValidationError,
    data_digest,
    data_line,
    open_sources,
)
from mgd_ssl.data.bad_files import make_guard
from mgd_ssl.data.loading import listed_batches
from mgd_ssl.evaluation.features import collect_alone
from mgd_ssl.exporting.feature_files.table import FeatureFile, FeatureTable
from mgd_ssl.exporting.packages import require_packages
from mgd_ssl.fabric import Fabric
from mgd_ssl.files import write_whole
from mgd_ssl.models import find_checkpoint
from mgd_ssl.progress import tracked
from mgd_ssl.runs.feature_network import FeatureNetwork, load_network
from mgd_ssl.runs.output_folder import LOCK, PART_IMAGES, Part, alone, write_parts
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.embed import EmbedConfig
from mgd_ssl.settings.options import named
from mgd_ssl.training.devices import settled, start_fabric
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.same_run import weights_digest

DIGITS = 6  # of a part's number


def run(config: EmbedConfig) -> Path:
    """Write the file; returns its path.

    Raises:
        ValueError: the network or the images are refused, the file exists, or no image can be
            decoded.
        WriteError: the disk is full; the parts that are whole stay.
    """
    start_logging()
    config = replace(config, checkpoint=find_checkpoint(config.checkpoint, config.data))
    kind: type[FeatureFile] = FEATURE_FILES[config.out.suffix]
    require_packages("out", config.out.suffix, kind.packages)
    check_output_files([config.out], lambda: False, held="content already")
    config = replace(config, device=settled(config.device))
    fabric = start_fabric(config.device)
    source = open_images(config)
    if fabric.is_global_zero:
        logger.info(data_line({"features": source}))
    embedder = Embedder(config, fabric, source, load_network(config, fabric.device))
    with ExitStack() as stack:
        begun = alone(embedder.folder, "writes features")
        distributed.from_first(lambda: stack.enter_context(begun))
        embedder.make()
        fabric.barrier()
        distributed.from_first(lambda: embedder.finish(kind))
    return config.out


def open_images(config: EmbedConfig) -> ImageSource:
    """The images of the split, or of both."""
    opening = config.folders.opening
    if config.split != "all":
        return open_sources(config.data, config.split, **opening)
    train = open_sources(config.data, "train", **opening)
    try:
        val = open_sources(config.data, "val", **opening)
    except NoValidationError:
        return train
    return ConcatSource([train, val], labeled=False)


@dataclass(frozen=True)
class Embedder:
    """A network, images, and a folder for the parts of their features.

    Attributes:
        config: of the command.
        fabric: processes, device and precision.
        source: the images.
        loaded: the network.
    """

    config: EmbedConfig
    fabric: Fabric
    source: ImageSource
    loaded: FeatureNetwork

    @property
    def folder(self) -> Path:
        """Of the parts: beside the file, until that is written."""
        return self.config.out.with_name(f"{self.config.out.name}.parts")

    @property
    def parts(self) -> list[range]:
        """Images of each part."""
        starts = range(0, len(self.source), PART_IMAGES)
        return [range(s, min(s + PART_IMAGES, len(self.source))) for s in starts]

    @property
    def crop(self) -> CenterCrop:
        """What is cut from the images."""
        return CenterCrop.of(self.loaded.size)

    @property
    def facts(self) -> dict[str, Any]:
        """What the features are of."""
        config, report = self.config, self.loaded.report
        return {
            "checkpoint": config.checkpoint.name,
            "sha256": dict(report.sha256),
            "network": report.spec.to_dict(),
            "features": config.features,
            "size": self.loaded.size,
            "crop": self.crop.to_dict(),
            "mean": list(report.mean),
            "std": list(report.std),
            "exif": config.exif,
            "data": named(config.data),
            "split": config.split,
            "classes": self.source.classes,
        }

    @cached_property
    def identity(self) -> str:
        """Digest of all that the features depend on, to the last bit."""
        config = self.config
        device = (config.device.precision, config.device.channels_last, config.device.compile)
        made_of = {
            "weights": weights_digest(self.loaded.network.state_dict()),
            "images": data_digest(self.source),
            "facts": {k: v for k, v in self.facts.items() if k not in ("checkpoint", "data")},
            "batches": (config.batch_size, PART_IMAGES, *device, self.fabric.device.type),
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def make(self) -> None:
        """Write this process's share of the parts that are missing.

        Raises:
            WriteError: the disk is full.
        """
        missing = distributed.from_first(self._missing)
        mine = missing[self.fabric.global_rank :: self.fabric.world_size]
        whole = len(self.parts) - len(missing)
        if whole and self.fabric.is_global_zero:
            logger.info("%d of %d parts are there", whole, len(self.parts))
        write_parts(self._made(mine), self.identity, whole)

    def finish(self, kind: type[FeatureFile]) -> None:
        """Put the parts together, and delete them.

        Raises:
            ValueError: no image could be decoded.
        """
        indices = np.concatenate([part["indices"].numpy() for part in self._read()])
        unreadable = len(self.source) - len(indices)
        if not len(indices):
            raise ValueError(
                f"data: got {unreadable} images of which none can be decoded, expected one or "
                "more; check the data folder"
            )
        facts = {**self.facts, "images": len(indices), "unreadable": unreadable}
        labels = None if self.source.labels is None else self.source.labels[indices]
        files = [_text(self.source.describe(index)) for index in indices.tolist()]
        dimension = next(x["features"].shape[1] for x in self._read() if len(x["features"]))
        table = FeatureTable(files, labels, dimension, self._rows, facts)
        write_whole(self.config.out, lambda file: kind.write(file, table))
        for path in self.folder.glob(f"{'[0-9]' * DIGITS}.safetensors"):
            path.unlink()
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # whatever else is in it stays
            self.folder.rmdir()
        left_out = f", {unreadable:,} could not be decoded and are left out" if unreadable else ""
        logger.info(
            "written: %s, %s images of %d features%s",
            *(self.config.out, f"{len(indices):,}", dimension, left_out),
        )

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:0{DIGITS}}.safetensors"

    def _missing(self) -> list[int]:
        """Parts that are to be made; what a killed command left of one goes."""
        for file in self.folder.glob(".*.tmp"):
            file.unlink()
        numbers = range(len(self.parts))
        return [n for n in numbers if not is_whole(self._path(n), self.identity, None)]

    def _made(self, wanted: Sequence[int]) -> Iterator[Part]:
        """The file and columns of each part; the loader decodes ahead over their borders."""
        size = self.config.batch_size
        images = [self.parts[number] for number in wanted]
        parts = [[one[s : s + size] for s in range(0, len(one), size)] for one in images]
        loaded = self._load([batch for part in parts for batch in part])
        for number, part in zip(wanted, parts, strict=True):
            found = collect_alone(
                _Autocast(self.fabric, self.loaded.network),
                islice(loaded, len(part)),
                transform=self.loaded.transform,
                device=self.fabric.device,
            )
            yield self._path(number), {"features": found.features, "indices": found.indices}

    def _load(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        config = self.config
        dataset = ImageDataset(self.source, self.crop, config.exif)
        guard = make_guard(self.source, 1.0, train=False, exif=config.exif)
        loader = listed_batches(dataset, batches, config.workers)
        processes = self.fabric.world_size
        total = processes * sum(map(len, batches))
        shown = tracked(loader, "features", total, count=lambda b: processes * len(b.images))
        for batch in shown:
            guard.check(batch)
            yield batch

    def _read(self) -> Iterator[dict[str, Tensor]]:
        for number in range(len(self.parts)):
            yield read_part(self._path(number), self.identity, None, check=False)

    def _rows(self) -> Iterator[NDArray[np.float32]]:
        return (part["features"].numpy() for part in self._read() if len(part["features"]))


class _Autocast(nn.Module):
    """A network in the precision that is asked for."""

    def __init__(self, fabric: Fabric, network: nn.Module) -> None:
        super().__init__()
        self.fabric, self.network = fabric, network

    def forward(self, images: Tensor) -> Tensor:
        """As the network."""
        with self.fabric.autocast():
            found: Tensor = self.network(images)
        return found


def _text(name: str) -> str:
    """A file's name as UTF-8; bytes that are none are written as ``\\udcXX``."""
    return name.encode("utf-8", "backslashreplace").decode()
