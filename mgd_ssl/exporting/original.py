"""The network that is exported, and what its file says of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

import mgd_ssl
from mgd_ssl.data import CenterCrop
from mgd_ssl.models import BackboneSpec, KeyReport, backbone_state, pool

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class InputContract:
    """The images that a network takes.

    Attributes:
        size: side in pixels; of a detector's images the shorter one, to which it resizes them.
        mean: per channel (red, green, blue) of images in [0,1].
        std: per channel.
        crop: what evaluations cut from an image; None of detectors, which take whole images.
        longer: side in pixels that a detector's images have at most; None of other networks.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: CenterCrop | None = None
    longer: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return {
            "layout": "NCHW",
            "channels": "RGB",
            "size": self.size,
            "value_range": [0, 1],
            "mean": list(self.mean),
            "std": list(self.std),
            **({"crop": self.crop.to_dict()} if self.crop else {}),
        }

    def __str__(self) -> str:
        if self.longer:
            return (
                f"RGB images of any size; the shorter side becomes {self.size} pixels, the longer "
                f"one {self.longer} at most"
            )
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return (
            f"float32 (N, 3, {self.size}, {self.size}), RGB; pixels in [0, 1], then minus mean "
            f"({mean}), divided by std ({std})"
        )


@dataclass(frozen=True)
class Original:
    """A network to export.

    Attributes:
        network: in eval mode, on the CPU.
        report: of its file.
        contract: of its input.
    """

    network: nn.Module
    report: KeyReport
    contract: InputContract

    @property
    def spec(self) -> BackboneSpec:
        """What builds the network."""
        return self.report.spec

    @property
    def is_detector(self) -> bool:
        """Whether it finds objects; else it is a backbone or a classifier."""
        return isinstance(self.network, RetinaNet)

    @property
    def classes(self) -> int:
        """Outputs of its classifier; 0 of a backbone."""
        return self.report.classes or 0

    @property
    def output(self) -> str:
        """Name of a backbone's or a classifier's output."""
        return "logits" if self.classes else "features"

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Weights by the library's names: of a backbone without a head."""
        whole = self.classes or self.is_detector
        return self.network.state_dict() if whole else backbone_state(self.network)

    @property
    def provenance(self) -> dict[str, Any]:
        """Whose weights these are: what their file says, and the file itself."""
        source = self.report.provenance.to_dict()
        return {**source.pop("learned_from", {}), "source": source}

    @property
    def metadata(self) -> dict[str, str]:
        """What every file holds beside the weights, each entry as JSON."""
        normalization = {"mean": list(self.contract.mean), "std": list(self.contract.std)}
        entries = {
            "backbone": self.spec.to_dict(),
            "normalisation": normalization,
            "size": self.contract.size,
            "input": self.contract.to_dict(),
            "output": self.output,
            "provenance": self.provenance,
            "mgd_ssl": mgd_ssl.__version__,
        }
        names = self.report.class_names
        entries |= {"classes": list(names)} if names and self.classes else {}
        return {name: json.dumps(value) for name, value in entries.items()}

    def run(self, images: Tensor) -> Outputs:
        """Outputs by name; see `outputs_of`."""
        return outputs_of(self.network, images, self.output)


@torch.no_grad()
def outputs_of(network: nn.Module, images: Tensor, output: str) -> Outputs:
    """What a network says of normalized images (N,3,S,S).

    Args:
        network: in eval mode.
        images: on its device.
        output: name of its output; a detector's are the raw ones of its heads.
    """
    if isinstance(network, RetinaNet):
        return dict(network.head(list(network.backbone(images).values())))
    return {output: pool(network(images))}


def weights_of(network: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a network's weights."""
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}
