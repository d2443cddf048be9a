"""Horizontal flips of images with boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def flip_randomly(
    images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], p: float = 0.5
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Flip each image with probability ``p``, and its boxes with it.

    The draws come from torch's generator on the CPU, in the images' order.

    Args:
        images: (3,H,W) each.
        targets: for each image "boxes" (M,4) x1, y1, x2, y2 in pixels, and what else there is.
        p: in [0, 1].
    """
    flips = (torch.rand(len(images)) < p).tolist()
    pairs = [
        (image.flip(-1), {**target, "boxes": flip_boxes(target["boxes"], image.shape[-1])})
        if flip
        else (image, target)
        for image, target, flip in zip(images, targets, flips, strict=True)
    ]
    return [image for image, _ in pairs], [target for _, target in pairs]


def flip_boxes(boxes: Tensor, width: int) -> Tensor:
    """Boxes (M,4) of an image that is ``width`` pixels wide, after it was flipped."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
