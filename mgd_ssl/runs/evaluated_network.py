"""A network from any checkpoint, and the labeled images that an evaluator measures it on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data import (
    DecodeGuard,
    ImageLoader,
    RandomCrops,
    data_line,
    decoding_workers,
    make_loader,
)
from mgd_ssl.evaluation.features import Features, collect_features
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import find_checkpoint
from mgd_ssl.runs.evaluated_images import open_images
from mgd_ssl.runs.feature_network import load_network
from mgd_ssl.runs.overwriting import check_result_file, choose_result_file
from mgd_ssl.settings.evaluation import EvaluationConfig
from mgd_ssl.settings.options import (
    ComputeOptions,
    DeviceOptions,
    named,
)
from mgd_ssl.training.devices import settled, start_fabric
from mgd_ssl.training.logging import logger


class EvaluatedNetwork:
    """A network from a checkpoint, on its device, and the labeled images it is measured on.

    Args:
        config: of the evaluator.
        uses: what the train and the val images are used for, in words.
        unlabeled: whether images without labels are of use.
    """

    def __init__(
        self, config: EvaluationConfig, uses: tuple[str, str], unlabeled: bool = False
    ) -> None:
        checkpoint = find_checkpoint(config.checkpoint, config.data)
        config = replace(config, checkpoint=checkpoint, device=settled(config.device))
        self.config = config
        train, val, self.split = open_images(config, unlabeled=unlabeled)
        self.sources = {"train": train, "val": val}
        self._guards: dict[str, DecodeGuard] = {}
        logger.info(data_line(dict(zip(uses, self.sources.values(), strict=True))))
        if self.has_labels and len(np.unique(self.labels("val"))) == 1:
            logger.warning("all val images are of one class, so that accuracy says little")
        self.fabric = _one_process(config.device)
        self.device = self.fabric.device
        loaded = load_network(config, self.device)
        self.report, self.size, self.transform = loaded.report, loaded.size, loaded.transform
        self.network = self.fabric.setup_module(loaded.network)  # runs in the precision

    @property
    def has_labels(self) -> bool:
        """Whether the images have labels."""
        return self.sources["train"].labels is not None

    def labels(self, split: str) -> NDArray[np.int64]:
        """Classes (N,) of a split."""
        labels = self.sources[split].labels
        assert labels is not None  # the sources were opened with labels
        return labels

    def loader(self, split: str, crops: RandomCrops | None = None) -> ImageLoader:
        """Batches of a split: random crops in random order, or center crops in order."""
        source = self.sources[split]
        loader = make_loader(
            source,
            self.size,
            self.config.batch_size,
            train=crops is not None,
            crops=crops,
            seed=self.config.seed,
            workers=0 if source.in_memory else decoding_workers(self.config.workers),
            exif=self.config.exif,
        )
        self._guards.setdefault(split, loader.guard)
        return loader

    def features(self, split: str) -> Features:
        """Features of the center crops of a split."""
        return collect_features(
            self.network,
            self.loader(split),
            transform=self.transform,
            device=self.device,
            what=f"features of {split}",
        )

    def settings(self) -> dict[str, Any]:
        """Settings that every result holds."""
        return {
            "checkpoint": str(self.config.checkpoint),
            "sha256": dict(self.report.sha256),
            "layout": self.report.layout,
            "network": self.report.spec.to_dict(),
            "features": self.config.features,
            "data": named(self.config.data),
            "limit": self.config.limit,
            "limit_val": self.config.limit_val,
            **self.config.folders.opening,
            **({"split": self.split} if self.split else {}),
            **self.counts(),
            "size": self.size,
            "exif": self.config.exif,
            "precision": self.config.device.precision,
            "mean": list(self.report.mean),
            "std": list(self.report.std),
        }

    def counts(self) -> dict[str, int]:
        """Numbers of images that were used, and of those that could not be decoded."""
        readable = {f"{split}_images": guard.readable for split, guard in self._guards.items()}
        return readable | {f"{s}_unreadable": guard.unreadable for s, guard in self._guards.items()}

    def images_used(self) -> str:
        """How many images of each split were used, in words."""
        parts = [f"{g.readable:,} of {len(g.source):,} {s}" for s, g in self._guards.items()]
        return f"{' and '.join(parts)} images"

    def result_file(self, name: str, recipe: Mapping[str, Any], *, picture: bool = False) -> Path:
        """The JSON file to write: that of ``--out``, or one next to the checkpoint.

        Args:
            name: of the evaluator.
            recipe: protocol and settings of the result besides `settings`.
            picture: whether a PNG of the same name is written too.

        Raises:
            ValueError: ``--out`` holds something else, or the file cannot be written.
        """
        result = {**recipe, **self.settings()}
        if self.config.out is None:
            return choose_result_file(self.config.checkpoint, name, result, picture=picture)
        check_result_file(self.config.out, result, picture=picture)
        return self.config.out


def _one_process(options: ComputeOptions) -> Fabric:
    """The device and its precision, for a single process.

    Raises:
        ValueError: several processes were started; each of them would do the same work.
    """
    fabric = start_fabric(
        DeviceOptions(
            accelerator=options.accelerator, threads=options.threads, precision=options.precision
        )
    )
    if fabric.world_size > 1:
        raise ValueError(
            f"got {fabric.world_size} processes, expected one: evaluators do not share their work; "
            "start them with python, not with torchrun or srun"
        )
    return fabric
