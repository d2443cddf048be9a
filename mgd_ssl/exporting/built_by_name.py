"""Weights for a library that builds the network by name, loaded with strict=True."""

from abc import abstractmethod
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from mgd_ssl.exporting.original import Original, outputs_of, weights_of
from mgd_ssl.exporting.target import Runnable
from mgd_ssl.exporting.targets.safetensors import Safetensors


class BuiltByName(Safetensors):
    """A target whose own code builds the network, which then loads the weights strictly."""

    @abstractmethod
    def build(self, original: Original) -> nn.Module | None:
        """The library's network, random, with the original's head or none; None if unknown."""

    def refusal(self, original: Original) -> str:
        """The library has a network of these names and shapes, or it is refused."""
        if original.is_detector:
            return super().refusal(original)
        spec = original.spec
        if spec.stem != "imagenet":
            return f"its stem is {spec.stem}, which {self.name} does not build"
        with torch.random.fork_rng(devices=[]):
            network = self.build(original)
        if network is None:
            return f"{self.name} has no network {spec.arch} of width {spec.width:g}"
        theirs = weights_of(network)
        ours = {key: tuple(value.shape) for key, value in original.state.items()}
        differ = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        if differ:
            return f"its weights differ in {len(differ)} names or shapes, first {differ[0]}"
        return ""

    def load(self, original: Original, path: Path) -> Runnable:
        """Build the library's network, and load the file with strict=True."""
        with torch.random.fork_rng(devices=[]):
            network = self.build(original)
        assert network is not None  # it was not refused
        network.load_state_dict(load_file(path), strict=True)
        network.eval()
        return lambda images: outputs_of(network, images, original.output)
