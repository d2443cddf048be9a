"""Views of which a teacher's answers are stored: a few of each image, seen again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from mgd_ssl.data.cropping import Draws, RandomCrops
from mgd_ssl.data.decoding import Picture


@dataclass(frozen=True)
class StoredViews:
    """Crops and flips that do not depend on the epoch, but for which of them it sees.

    View v of an image is the one that `RandomCrops` draws in epoch v. An epoch sees the next views
    in turn.

    Args:
        crops: of one view.
        count: views of each image that are stored.
        views: that an epoch sees of each image.
    """

    crops: RandomCrops
    count: int
    views: int = 1

    def seen(self, epoch: int) -> list[int]:
        """The stored views, from 0, that an epoch sees."""
        return [(epoch * self.views + i) % self.count for i in range(self.views)]

    def draw(self, epoch: int, indices: NDArray[np.int64]) -> list[Draws]:
        """What is drawn for each of B images."""
        drawn = [self.crops.draw(view, indices) for view in self.seen(epoch)]
        return [[draw for (draw,) in of_image] for of_image in zip(*drawn, strict=True)]

    def one(self, picture: Picture, draws: Draws) -> UInt8[Tensor, "v 3 s s"]:
        """An image that is opened -> (V, 3, S, S) uint8."""
        return self.crops.one(picture, draws)

    def many(
        self, images: UInt8[Tensor, "b c h w"], draws: Sequence[Draws]
    ) -> UInt8[Tensor, "b v 3 s s"]:
        """Small images of one size, of 1 or 3 channels -> (B, V, 3, S, S) uint8."""
        return self.crops.many(images, draws)
