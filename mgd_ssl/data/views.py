"""Random views of a batch of crops, made on its device by kornia; normalization apart from them."""

from typing import Any, Self

import kornia.augmentation as K
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from mgd_ssl.data.cropping import RandomCrops
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.settings.views import ViewOptions


def random_crops(options: ViewOptions, size: int, views: int = 1, seed: int = 0) -> RandomCrops:
    """The crops that views are made of, which the loader cuts and flips: ``size`` pixels a side."""
    area = options.crop_min, options.crop_max
    return RandomCrops(size, views, area, seed, options.flip_p)


def to_unit(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Bytes to floats in [0, 1].

    Raises:
        ValueError: images that are not uint8.
    """
    if images.dtype != torch.uint8:
        raise ValueError(
            f"images of {images.dtype}; expected torch.uint8 in [0, 255], as the loader gives them."
        )
    return images.float().div_(255)


class View(nn.Module):
    """Crops (N,3,S,S) uint8 to a random view of each: color and blur.

    Views are floats (N,3,S,S) in [0, 1], not normalized. Every parameter is drawn for each image
    from torch's global generator on the CPU, wherever the images are; the order of the four jitter
    steps is drawn once a batch.

    Args:
        options: how a view is drawn; its crop and flip are those of `random_crops`.
        size: S, in pixels.
        enlarged: S over the side at which the blur is meant.
    """

    def __init__(self, options: ViewOptions, size: int, enlarged: float = 1.0) -> None:
        super().__init__()
        self.steps = nn.Sequential(*_steps(options, size, enlarged))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Stay: moved to a device, kornia draws there, and waits for it to look at what it drew."""
        return self

    @torch.no_grad()
    def forward(self, images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
        """Draw one view of every crop."""
        with torch.autocast(images.device.type, enabled=False):
            view: Tensor = self.steps(to_unit(images))
        return view.clamp_(0, 1)


def _steps(p: ViewOptions, size: int, enlarged: float) -> list[nn.Module]:
    """The steps of a view in order; those that never happen are left out."""
    color: list[nn.Module] = []
    strengths = (p.jitter_brightness, p.jitter_contrast, p.jitter_saturation, p.jitter_hue)
    if p.jitter_p and any(strengths):
        color.append(K.ColorJitter(*strengths, p=p.jitter_p))
    if p.gray_p:
        gray = K.RandomGrayscale(p=p.gray_p)
        color.insert(0 if p.gray_first else len(color), gray)
    if p.blur_p:
        color.append(_blur(p, size, enlarged))
    return color


def _blur(p: ViewOptions, size: int, enlarged: float) -> nn.Module:
    """A Gaussian cut at three sigma, and to less than the image as reflection needs."""
    sigma = (p.blur_sigma_min * enlarged, p.blur_sigma_max * enlarged)
    radius = min(int(3 * sigma[1] + 0.5), size - 1)
    kernel = 2 * radius + 1
    blur: nn.Module = K.RandomGaussianBlur((kernel, kernel), sigma, p=p.blur_p)
    return blur


class Shrink(nn.Module):
    """Views that are larger than what a network sees, to its side; bilinear, antialiased.

    Args:
        size: S, in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c s s"]:
        """Views of the side S or larger, all of one side -> of the side S."""
        if images.shape[-1] <= self.size:
            return images
        side = (self.size, self.size)
        return F.interpolate(images, side, mode="bilinear", antialias=True, align_corners=False)


class Normalize(nn.Module):
    """(x - mean) / std for each channel; ``mean`` and ``std`` in units of [0, 1] images."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f"mean {mean}, std {std}; expected as many of each, every std above 0."
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalize images in [0, 1]."""
        return (images - self.mean) / self.std


class EvalTransform(nn.Module):
    """uint8 (N,3,S,S) to normalized float, nothing random."""

    def __init__(self, normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Scale to [0, 1] and normalize."""
        normalized: Tensor = self.normalize(to_unit(images))
        return normalized


def eval_transform(
    mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> EvalTransform:
    """The transform of evaluation: uint8 to normalized float."""
    return EvalTransform(Normalize(mean, std))
