"""Classifiers of torchvision by name, and the weights that it publishes for them."""

import re
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import DenseNet, MNASNet

CLASSIFIERS = tuple(torchvision.models.list_models(module=torchvision.models))
# Where the last layer of a classifier is, where its Sequential holds more than a dropout beside it:
# the features are what that layer reads.
LAST_LAYERS = {
    "alexnet": "classifier.6",
    "convnext": "classifier.2",
    "maxvit": "classifier.5",
    "mobilenet_v3": "classifier.3",
    "squeezenet": "classifier.1",
    "vgg": "classifier.6",
    "vit": "heads",
}
# Their published weights take images in [-1,1]; torchvision brings its usual ones there inside.
HALVES = (0.5, 0.5, 0.5)
INCEPTIONS = ("googlenet", "inception_v3")


class PlainMNASNet(MNASNet):  # type: ignore[misc]
    """MNASNet that also loads weights without PyTorch's metadata, as safetensors files hold."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        metadata = {"version": MNASNet._version, **local_metadata}
        super()._load_from_state_dict(state_dict, prefix, metadata, *args)


class PlainDenseNet(DenseNet):  # type: ignore[misc]
    """DenseNet whose last activation does not overwrite the map that it reads."""

    def forward(self, x: Tensor) -> Tensor:
        """As torchvision's: (N,3,H,W) -> (N,K)."""
        pooled = self.features(x).relu().mean((2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits


def other_task(name: str) -> str:
    """What is said of torchvision's networks that are no classifiers; "" of any other name."""
    if name in CLASSIFIERS or name not in torchvision.models.list_models():
        return ""
    task = torchvision.models.get_model_builder(name).__module__.split(".")[2].replace("_", " ")
    return (
        f"{name} is torchvision's network for {task}, expected a classifier, such as resnet50; "
        "mgd-ssl detect has detectors"
    )


def build_torchvision(arch: str) -> nn.Module:
    """A classifier with random weights, without auxiliary outputs; its head's place is said."""
    extra: dict[str, Any] = {}
    if arch in INCEPTIONS:
        extra = {"aux_logits": False, "init_weights": True}
    network: nn.Module = torchvision.models.get_model(arch, weights=None, **extra)
    place = next((p for start, p in LAST_LAYERS.items() if arch.startswith(start)), None)
    if place:
        network.head_name = place  # type: ignore[assignment]
    if needs_metadata(arch):
        network.__class__ = PlainMNASNet
    return network


def needs_metadata(arch: str) -> bool:
    """Whether torchvision's own network refuses weights of a file without PyTorch's metadata."""
    return arch in CLASSIFIERS and arch.startswith("mnasnet")


def head_attribute(network: nn.Module) -> str:
    """Where a network's head is, as Python writes it: ``fc``, ``classifier[3]``."""
    return re.sub(r"\.(\d+)", r"[\1]", str(network.head_name))


def published(name: str) -> dict[str, Any]:
    """Published weights and what they take: ``resnet50``, or ``resnet50:NAME`` for others.

    Raises:
        ValueError: no weights of that name.
        OSError: they cannot be downloaded.
    """
    arch, _, version = name.partition(":")
    known = torchvision.models.get_model_weights(arch)
    names = [weights.name for weights in known]
    if version and version not in names:
        raise ValueError(f"weights: got {version!r} of {arch}, expected one of {', '.join(names)}")
    weights = known[version or names[0]]
    recipe = weights.transforms()
    mean, std = tuple(recipe.mean), tuple(recipe.std)
    return {
        "arch": arch,
        "state_dict": _state(arch, weights),
        "normalisation": {"mean": HALVES, "std": HALVES}
        if arch in INCEPTIONS
        else {"mean": mean, "std": std},
        "size": recipe.crop_size[0],
        "classes": weights.meta["categories"],
    }


def _state(arch: str, weights: Any) -> dict[str, Tensor]:
    """By the network's own names, which older files do not have; without auxiliary outputs."""
    with torch.random.fork_rng(devices=[]):
        network = torchvision.models.get_model(arch, weights=weights, progress=False)
    state = network.state_dict()
    return {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}
