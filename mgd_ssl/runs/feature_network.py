"""A network from any checkpoint, on its device, with the features that are asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import yaml
from torch import nn

from mgd_ssl.data import EvalTransform, eval_transform
from mgd_ssl.models import KeyReport, Taps, TokenFeatures, find_features, load_backbone, probe
from mgd_ssl.settings.evaluation import Features
from mgd_ssl.settings.options import BackboneOptions, ComputeOptions
from mgd_ssl.training.devices import place
from mgd_ssl.training.logging import logger
from mgd_ssl.training.run_files import CONFIG


class FeatureConfig(Protocol):
    """Settings that name a network and its features."""

    @property
    def checkpoint(self) -> Path:
        """File of the network."""

    @property
    def data(self) -> tuple[Path, ...]:
        """Places of images."""

    @property
    def features(self) -> Features:
        """Which features."""

    @property
    def size(self) -> int:
        """Image side, in pixels; 0 for that of the checkpoint."""

    @property
    def network(self) -> BackboneOptions:
        """What overrides the file's description."""

    @property
    def device(self) -> ComputeOptions:
        """Device and precision."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A network whose output are features.

    Attributes:
        network: normalized images (N,3,S,S) to features (N,D), on its device.
        report: of its file.
        size: image side, in pixels.
        transform: uint8 images to normalized ones, on the device.
    """

    network: nn.Module
    report: KeyReport
    size: int
    transform: EvalTransform


def load_network(config: FeatureConfig, device: torch.device) -> FeatureNetwork:
    """Load a checkpoint and put it on the device.

    Raises:
        ValueError: see `load_backbone` and `find_features`, or it takes no images of the size.
    """
    network, report = load_backbone(config.checkpoint, **config.network.spec)
    logger.info("%s", report)
    trained_on = "" if config.data else data_of_run(config.checkpoint)
    if trained_on:
        logger.warning(
            "no DATA was given: the embedded images are used; the run was trained on %s", trained_on
        )
    size = config.size or report.size or (224 if config.data else 32)
    probe(network, Taps([]), size)  # a size that it cannot take is refused
    reader = find_features(network, config.features, size)
    place(network, config.device, device, reader)
    if reader:
        network = TokenFeatures(network, reader, size)
    transform: EvalTransform = eval_transform(report.mean, report.std)
    return FeatureNetwork(network, report, size, transform.to(device))


def data_of_run(checkpoint: Path) -> str:
    """The images that the run of a checkpoint was trained on; "" if embedded, or not known."""
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / CONFIG).is_file():
            try:
                content = yaml.safe_load((folder / CONFIG).read_bytes())
            except yaml.YAMLError:
                return ""
            data = content.get("data") if isinstance(content, dict) else None
            return ", ".join(map(str, data if isinstance(data, list) else [data])) if data else ""
    return ""
