"""Horizontal flips of images with boxes."""

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes


def flip_randomly(
    images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], p: float = 0.5
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Flip each image, and its boxes, with probability ``p``.

    One number for each image, in order, is drawn from torch's generator on the CPU, which the
    training loop seeds by the position in the data: a resumed run draws the same flips.

    Args:
        images: (3,H,W) each.
        targets: for each image "boxes" (M,4) x1, y1, x2, y2 in pixels, and any other entries.
        p: in [0, 1].
    """
    flip = v2.RandomHorizontalFlip(p)
    flipped = [
        flip(image, BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:]))
        for image, target in zip(images, targets, strict=True)
    ]
    moved = [
        {**target, "boxes": boxes.as_subclass(Tensor)}
        for target, (_, boxes) in zip(targets, flipped, strict=True)
    ]
    return [image for image, _ in flipped], moved
