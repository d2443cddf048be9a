"""Statistics of a network's channels, summed over images and processes.

They stand in for those of a batch norm where a map has none, and standardize a map that no
activation follows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mgd_ssl.matching.cost import float64_device


@dataclass(frozen=True)
class ChannelStatistics:
    """What a channel does over many images and pixels.

    Attributes:
        mean: (C,) float32.
        std: (C,) float32, above 0; 1 for a channel that is constant.
        margin: (C,) float32, the mean of the channel's negative values; 0 where it has none.
    """

    mean: Float32[Tensor, "c"]
    std: Float32[Tensor, "c"]
    margin: Float32[Tensor, "c"]


class StatisticsAccumulator:
    """Sum a map's statistics over batches, in memory O(C).

    Several processes accumulate their shares apart, then sum ``sums`` in place over the processes.

    Args:
        channels: C.
        device: where the sums are kept.

    Attributes:
        sums: (5, C) float64: number of values, their sum, the sum of their squares, number of the
            negative ones, their sum.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        place = float64_device(device)
        self.sums = torch.zeros(5, channels, dtype=torch.float64, device=place)

    @torch.no_grad()
    def update(self, maps: Float[Tensor, "n c h w"]) -> None:
        """Add a batch of maps (N,C,H,W); half precision is summed in float32 or better.

        Raises:
            ValueError: a value is not finite.
        """
        x = maps.transpose(0, 1).flatten(1).float()
        below, negative = (x < 0).sum(1), x.clamp_max(0).sum(1)
        # Squares in float32 would hide a deviation that is small against the mean.
        var, mean, below, negative = (
            sums.to(self.sums) for sums in (*torch.var_mean(x, 1, correction=0), below, negative)
        )
        values = torch.full_like(mean, x.shape[1])
        squares = values * (var + mean.square())
        sums = torch.stack([values, values * mean, squares, below, negative])
        if not sums.isfinite().all():
            raise ValueError(
                "channel statistics: a map holds NaN or infinity, expected finite features; check "
                "the images and the weights"
            )
        self.sums += sums

    def result(self) -> ChannelStatistics:
        """The statistics of all maps that were added.

        Raises:
            ValueError: no map was added.
        """
        count, total, squares, below, negative = self.sums
        if not count.all():
            raise ValueError("channel statistics: got no images, expected at least 1")
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        margin = negative / below.clamp_min(1)
        constant = std <= 1e-6 * mean.abs().clamp_min(1e-12)
        return ChannelStatistics(
            mean.float(), std.masked_fill(constant, 1.0).float(), margin.float()
        )
