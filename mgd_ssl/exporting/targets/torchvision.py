"""``--to torchvision``: weights that torchvision's network of the same name loads."""

from typing import Any

import torchvision
from torch import nn

from mgd_ssl.exporting.built_by_name import BuiltByName
from mgd_ssl.exporting.original import Original
from mgd_ssl.models.torchvision_networks import (
    CLASSIFIERS,
    INCEPTIONS,
    head_attribute,
    needs_metadata,
)


class Torchvision(BuiltByName):
    """``torchvision.models.get_model``; the head of a backbone is an identity."""

    name, ending = "torchvision", ".torchvision.safetensors"

    def refusal(self, original: Original) -> str:
        """MNASNet is refused, which loads no weights from safetensors."""
        if not original.is_detector and needs_metadata(_name(original)):
            return "torchvision loads its MNASNet only from PyTorch's own files"
        return super().refusal(original)

    def build(self, original: Original) -> nn.Module | None:
        """Width is an argument of MobileNet v2 alone."""
        spec = original.spec
        known = _name(original) in CLASSIFIERS and not spec.options
        if not known or (spec.width != 1 and _name(original) != "mobilenet_v2"):
            return None
        network: nn.Module = torchvision.models.get_model(_name(original), **_arguments(original))
        if not original.classes:
            _remove(network, str(original.network.head_name))
        return network

    def loading(self, original: Original, file: str) -> list[str]:
        """With torchvision and safetensors alone."""
        given = "".join(f", {name}={value!r}" for name, value in _arguments(original).items())
        head = head_attribute(original.network)
        lines = [
            "import torch, torchvision; from safetensors.torch import load_file",
            f"network = torchvision.models.get_model({_name(original)!r}{given})",
        ]
        lines += [] if original.classes else [f"network.{head} = torch.nn.Identity()"]
        return [*lines, f"network.load_state_dict(load_file({file!r})); network.eval()"]


def _name(original: Original) -> str:
    return original.spec.arch.removeprefix("timm/")


def _arguments(original: Original) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if original.classes:
        found["num_classes"] = original.classes
    if original.spec.width != 1:
        found["width_mult"] = original.spec.width
    if _name(original) in INCEPTIONS:
        found |= {"aux_logits": False, "init_weights": False}
    return found


def _remove(network: nn.Module, head: str) -> None:
    try:
        network.set_submodule(head, nn.Identity())
    except AttributeError:  # another library's network: its weights differ, and that is said
        return
