"""Features that a network of tokens offers beside the ones that it pools itself."""

from typing import Literal

import torch
from torch import Tensor, nn

from mgd_ssl.models.pooling import pool
from mgd_ssl.models.tap_finder import CLASS_TOKEN, PATCHES, find_tokens
from mgd_ssl.models.taps import Taps, probe

FeatureChoice = Literal["pooled", "cls", "cls+patches"]
READ = {"cls": [CLASS_TOKEN], "cls+patches": [CLASS_TOKEN, PATCHES]}


class TokenFeatures(nn.Module):
    """A network whose output is read from its tokens behind the final norm.

    Args:
        network: of tokens.
        reader: of the class token, and of the patches where their mean is appended.
        size: image side, in pixels.

    Attributes:
        num_features: D of the output.
    """

    def __init__(self, network: nn.Module, reader: Taps, size: int) -> None:
        super().__init__()
        self.network, self.reader = network, reader
        self.num_features = sum(map_.shape[1] for map_ in probe(network, reader, size))

    def forward(self, x: Tensor) -> Tensor:
        """(N,3,H,W) -> (N,D)."""
        maps, _ = self.reader(self.network, x)
        return torch.cat([pool(map_) for map_ in maps], dim=1)


def find_features(network: nn.Module, features: FeatureChoice, size: int) -> Taps | None:
    """Where features are read; None for those that the network pools itself.

    Args:
        network: any.
        features: ``pooled``: the network's output; ``cls``: the class token; ``cls+patches``: the
            class token and the mean of the patch tokens, one after the other, as in DINOv2's linear
            evaluation (Oquab et al., arXiv 2304.07193). Registers are left out.
        size: image side, in pixels.

    Raises:
        ValueError: the network has no tokens, or no class token among them.
    """
    if features == "pooled":
        return None
    found = {tap.name: tap for tap in find_tokens(network, size)}
    if CLASS_TOKEN not in found:
        lacks = "no class token" if found else "no tokens"
        raise ValueError(
            f"features: got {features} for {type(network).__name__}, which has {lacks}, expected "
            "pooled; say --features pooled"
        )
    return Taps([found[name] for name in READ[features]])
