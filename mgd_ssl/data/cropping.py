"""What of an image the network sees: its center in evaluation, random crops in training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.formats import UNLIMITED
from mgd_ssl.data.random_numbers import uniform

TRIES = 10
RATIOS = (3 / 4, 4 / 3)
EXTREME = 4  # longer to shorter side of an image that is not resized as a whole
FLIPS = 1  # tells the numbers of the flips from those of the boxes


class Draw(NamedTuple):
    """What is drawn for a view of an image.

    Attributes:
        tries: TRIES times four numbers in [0, 1); see :func:`draw_box`.
        flip: whether left and right are exchanged.
    """

    tries: list[list[float]]
    flip: bool


Draws = list[Draw]  # of an image, one a view


class Cropping(Protocol):
    """What is cut from images; the same seed, epoch and index give the same."""

    def draw(self, epoch: int, indices: NDArray[np.int64]) -> list[Draws]:
        """The random numbers of each of B images."""

    def one(self, picture: Picture, draws: Draws) -> Tensor:
        """An image that is opened -> (..., 3, S, S) uint8."""

    def many(self, images: UInt8[Tensor, "b c h w"], draws: Sequence[Draws]) -> Tensor:
        """Small images of one size, of 1 or 3 channels -> (B, ..., 3, S, S) uint8."""


class Box(NamedTuple):
    """Part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def shorter_side(size: int) -> int:
    """Shorter side that images are resized to before they are cropped to ``size``.

    256 for 224, in proportion for other sizes; small images (below 96 pixels) keep their size.
    """
    return size if size < 96 else round(size * 256 / 224)


@dataclass(frozen=True)
class CenterCrop:
    """The shorter side resized, then a square cut from the center (bilinear, antialiased).

    Args:
        resize: shorter side in pixels after resizing.
        size: side of the square in pixels, at most ``resize``.

    Raises:
        ValueError: ``size`` larger than ``resize``, or not positive.
    """

    resize: int
    size: int

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(
                f"crop of {self.size} pixels from images resized to {self.resize}; expected "
                "0 < crop <= resize. Resize to at least the size of the crop."
            )

    @classmethod
    def of(cls, size: int) -> "CenterCrop":
        """What evaluations cut from an image for a network that sees ``size`` pixels a side."""
        return cls(shorter_side(size), size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        how = {"interpolation": "bilinear", "antialias": True}
        return {"shorter_side": self.resize, "center": self.size, **how}

    def __str__(self) -> str:
        return (
            f"the shorter side resized to {self.resize} pixels (bilinear, antialiased), then the "
            f"center of {self.size} by {self.size} pixels"
        )

    def draw(self, epoch: int, indices: NDArray[np.int64]) -> list[Draws]:
        """Nothing: the center is the same in every epoch."""
        return [[] for _ in indices]

    def one(self, picture: Picture, draws: Draws) -> Tensor:
        """An image that is opened -> (3, S, S) uint8."""
        image = picture.load()
        if max(image.size) > EXTREME * min(image.size):
            image = self._resize_center(image)
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return self.many(TF.pil_to_tensor(image), [])

    def many(self, images: UInt8[Tensor, "*b c h w"], draws: Sequence[Draws]) -> Tensor:
        """Images of one size, of 1 or 3 channels -> (..., 3, S, S) uint8."""
        if min(images.shape[-2:]) != self.resize:
            images = TF.resize(images, [self.resize], antialias=True)
        center: Tensor = TF.center_crop(images, [self.size, self.size])
        return center.expand(*center.shape[:-3], 3, -1, -1)

    def _resize_center(self, image: Image.Image) -> Image.Image:
        """The same square without the rest of a long image, which would be huge when resized."""
        (left, right), (top, bottom) = (self._center(side, min(image.size)) for side in image.size)
        box = left, top, right, bottom
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR, box)

    def _center(self, side: int, shorter: int) -> tuple[float, float]:
        """Where the square begins and ends along a side, in pixels before resizing."""
        whole = int(self.resize * side / shorter)
        start = round((whole - self.size) / 2)
        return start * side / whole, (start + self.size) * side / whole


@dataclass(frozen=True)
class RandomCrops:
    """Crops of random area, ratio and place, resized to a square (bilinear, antialiased).

    Each is drawn as torchvision's ``RandomResizedCrop`` draws it, from the whole image, and
    some are flipped. All is a function of seed, epoch, image and view alone.

    Args:
        size: side of the square in pixels.
        views: crops of each image.
        area: least and largest area of a crop, as a share of the image's.
        seed: of the crops and flips.
        flip_p: probability that left and right are exchanged.
    """

    size: int
    views: int = 1
    area: tuple[float, float] = (0.2, 1.0)
    seed: int = 0
    flip_p: float = 0.0

    def draw(self, epoch: int, indices: NDArray[np.int64]) -> list[Draws]:
        """The random numbers of each of B images."""
        numbers = uniform((self.seed, epoch), indices, self.views * TRIES * 4)
        flips = uniform((self.seed, epoch, FLIPS), indices, self.views) < self.flip_p
        drawn = numbers.reshape(-1, self.views, TRIES, 4).tolist(), flips.tolist()
        return [list(map(Draw, *of_image)) for of_image in zip(*drawn, strict=True)]

    def one(self, picture: Picture, draws: Draws) -> UInt8[Tensor, "v 3 s s"]:
        """An image that is opened -> (V, 3, S, S) uint8.

        A JPEG is decoded at a half, a quarter or an eighth where every crop still has ``size``
        pixels a side.
        """
        boxes = [draw_box(*picture.size, self.area, draw.tries) for draw in draws]
        divisor = picture.reduce(min(min(box.width, box.height) for box in boxes) / self.size)
        image = picture.load()
        crops = torch.stack([cut(image, box, self.size, divisor) for box in boxes])
        return flipped(crops, [draw.flip for draw in draws])

    def many(
        self, images: UInt8[Tensor, "b c h w"], draws: Sequence[Draws]
    ) -> UInt8[Tensor, "b v 3 s s"]:
        """Small images of one size, of 1 or 3 channels -> (B, V, 3, S, S) uint8."""
        height, width = images.shape[-2:]
        boxes = [[draw_box(width, height, self.area, d.tries) for d in image] for image in draws]
        crops = cut_many(images, torch.tensor(boxes), self.size)
        return flipped(crops, [[draw.flip for draw in image] for image in draws])


def draw_box(
    width: int, height: int, area: tuple[float, float], numbers: Sequence[Sequence[float]]
) -> Box:
    """A random part of an image; its ratio is log-uniform between 3/4 and 4/3.

    After torchvision's ``RandomResizedCrop.get_params``: the first try that fits, or else the
    largest part in the middle of a ratio in the range.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        area: least and largest, as a share of the image's.
        numbers: for each try, four numbers uniform in [0, 1): of area, ratio, left and top.
    """
    log_least, log_most = map(math.log, RATIOS)
    for share, place, x, y in numbers:
        pixels = width * height * (area[0] + share * (area[1] - area[0]))
        ratio = math.exp(log_least + place * (log_most - log_least))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(x * (width - w + 1)), int(y * (height - h + 1)), w, h)
    w = min(width, round(height * RATIOS[1]))
    h = min(height, round(width / RATIOS[0]))
    return Box((width - w) // 2, (height - h) // 2, w, h)


def cut(image: Image.Image, box: Box, size: int, divisor: int = 1) -> UInt8[Tensor, "3 s s"]:
    """Cut a box out and resize it to ``size`` x ``size`` (bilinear, antialiased).

    Args:
        image: RGB.
        box: in pixels of the image before it was made smaller.
        size: side in pixels of the result.
        divisor: by which the image was made smaller.
    """
    left, right = (round(x / divisor) for x in (box.left, box.left + box.width))
    top, bottom = (round(y / divisor) for y in (box.top, box.top + box.height))
    with UNLIMITED:  # the image was opened, so its size is allowed
        part = TF.pil_to_tensor(image.crop((left, top, right, bottom)))
    resized: Tensor = TF.resize(part, [size, size], antialias=True)
    return resized


def flipped(
    crops: UInt8[Tensor, "*n 3 s s"], flips: Sequence[bool] | Sequence[Sequence[bool]]
) -> UInt8[Tensor, "*n 3 s s"]:
    """Crops, left and right exchanged where ``flips`` (*N) says so."""
    chosen = torch.tensor(flips)
    if not chosen.any():
        return crops
    return torch.where(chosen[..., None, None, None], crops.flip(-1), crops)


def cut_many(
    images: UInt8[Tensor, "b c h w"], boxes: Int[Tensor, "b v 4"], size: int
) -> UInt8[Tensor, "b v 3 s s"]:
    """Cut :func:`cut`'s boxes out of many images at once, by products with dense matrices.

    That is fast for images of up to about a hundred pixels.

    Args:
        images: of 1 or 3 channels.
        boxes: left, top, width, height in pixels, V of each image.
        size: side in pixels of the result.
    """
    left, top, width, height = boxes.unbind(-1)
    rows = _bilinear(top, height, images.shape[-2], size)
    columns = _bilinear(left, width, images.shape[-1], size)
    pixels = rows[:, :, None] @ images[:, None].float() @ columns[:, :, None].mT
    return pixels.round_().to(torch.uint8).expand(-1, -1, 3, -1, -1)


def _bilinear(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Weights (B, V, size, side) of an image's pixels in those that a part is resized to."""
    start, length = start[..., None, None], length[..., None, None]
    scale = length / size
    center = start + (torch.arange(size)[:, None] + 0.5) * scale
    pixel = torch.arange(side)
    inside = (pixel >= start) & (pixel < start + length)
    weights = (1 - (pixel + 0.5 - center).abs() / scale.clamp(min=1)).clamp(min=0) * inside
    return weights / weights.sum(-1, keepdim=True)
