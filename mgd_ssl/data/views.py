"""Random views of a batch of crops, made on its device by kornia; normalisation apart from them."""

from dataclasses import dataclass, fields
from typing import Literal

import kornia.augmentation as K
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mgd_ssl.data.cropping import RandomCrops
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD

Preset = Literal["moco_v1", "moco_v2", "small", "weak", "linear"]


@dataclass(frozen=True)
class ViewParameters:
    """What a view is drawn from; the values of a preset.

    See :class:`ViewConfig` for the meaning and units of each; ``grey_first`` puts greyscale before
    the jitter (MoCo v1) instead of after it.
    """

    crop_min: float = 0.2
    crop_max: float = 1.0
    flip_p: float = 0.5
    jitter_brightness: float = 0.0
    jitter_contrast: float = 0.0
    jitter_saturation: float = 0.0
    jitter_hue: float = 0.0
    jitter_p: float = 0.0
    grey_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma_min: float = 0.1
    blur_sigma_max: float = 2.0
    grey_first: bool = False


PRESETS: dict[str, ViewParameters] = {
    "moco_v1": ViewParameters(0.2, 1, 0.5, 0.4, 0.4, 0.4, 0.4, 1.0, grey_p=0.2, grey_first=True),
    "moco_v2": ViewParameters(0.2, 1, 0.5, 0.4, 0.4, 0.4, 0.1, 0.8, grey_p=0.2, blur_p=0.5),
    "small": ViewParameters(0.2, 1, 0.5, 0.4, 0.4, 0.2, 0.05, 0.8, grey_p=0.1),
    "weak": ViewParameters(crop_min=0.5),
    "linear": ViewParameters(crop_min=0.08),
}


@dataclass(frozen=True)
class ViewConfig:
    """A preset (None is moco_v2), and any parameter of it set otherwise (None keeps its value).

    Attributes:
        preset: moco_v1, moco_v2, small (28 to 64 pixels), weak or linear (the probe's training).
        crop_min: least area of the crop, as a share of the image's.
        crop_max: largest area of the crop, as a share of the image's.
        flip_p: probability of a horizontal flip.
        jitter_brightness: factor drawn from [1 - x, 1 + x].
        jitter_contrast: factor drawn from [1 - x, 1 + x].
        jitter_saturation: factor drawn from [1 - x, 1 + x].
        jitter_hue: shift in turns of the hue circle drawn from [-x, x], at most 0.5.
        jitter_p: probability of the colour jitter.
        grey_p: probability of greyscale.
        blur_p: probability of a Gaussian blur.
        blur_sigma_min: least sigma of the blur in pixels.
        blur_sigma_max: largest sigma of the blur in pixels.

    Raises:
        ValueError: unknown preset, a parameter out of its range, or one without effect because the
            step that it belongs to has probability 0.
    """

    preset: Preset | None = None
    crop_min: float | None = None
    crop_max: float | None = None
    flip_p: float | None = None
    jitter_brightness: float | None = None
    jitter_contrast: float | None = None
    jitter_saturation: float | None = None
    jitter_hue: float | None = None
    jitter_p: float | None = None
    grey_p: float | None = None
    blur_p: float | None = None
    blur_sigma_min: float | None = None
    blur_sigma_max: float | None = None

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"view preset {self.preset!r}; expected one of {', '.join(PRESETS)}.")
        _validate(self.parameters())
        self._refuse_without_effect()

    def _refuse_without_effect(self) -> None:
        for step in ("jitter", "blur"):
            names = [f.name for f in fields(self) if f.name.startswith(step)]
            own = [name for name in names if getattr(self, name)]
            if own and getattr(self.parameters(), f"{step}_p") == 0:
                raise ValueError(
                    f"view parameter {own[0]} is set, and {step}_p is 0, so it has no effect; "
                    f"expected {step}_p above 0. Set {step}_p too, or leave {own[0]} out."
                )

    def parameters(self) -> ViewParameters:
        """The preset's values with this configuration's own over them."""
        preset = PRESETS[self.preset or "moco_v2"]
        values = {f.name: getattr(preset, f.name) for f in fields(preset)}
        values |= {n: own for n in values if (own := getattr(self, n, None)) is not None}
        return ViewParameters(**values)

    def crops(self, size: int, views: int = 1, seed: int = 0) -> RandomCrops:
        """The crops that views are made of, which the loader cuts: ``size`` pixels a side."""
        p = self.parameters()
        return RandomCrops(size, views, (p.crop_min, p.crop_max), seed)


def _validate(p: ViewParameters) -> None:
    def demand(holds: bool, what: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"view parameter {what}; expected {expected}.")

    crop = f"crop_min={p.crop_min}, crop_max={p.crop_max}"
    demand(0 < p.crop_min <= p.crop_max <= 1, crop, "0 < crop_min <= crop_max <= 1")
    for name in ("flip_p", "jitter_p", "grey_p", "blur_p"):
        value = getattr(p, name)
        demand(0 <= value <= 1, f"{name}={value}", "a probability in [0, 1]")
    for name in ("jitter_brightness", "jitter_contrast", "jitter_saturation"):
        value = getattr(p, name)
        demand(0 <= value <= 1, f"{name}={value}", "a strength in [0, 1]")
    demand(0 <= p.jitter_hue <= 0.5, f"jitter_hue={p.jitter_hue}", "at most half a turn, [0, 0.5]")
    sigma = f"blur_sigma_min={p.blur_sigma_min}, blur_sigma_max={p.blur_sigma_max}"
    demand(0 < p.blur_sigma_min <= p.blur_sigma_max, sigma, "0 < blur_sigma_min <= blur_sigma_max")


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
    """Crops (N,3,S,S) uint8 to a random view of each: colour, blur and flip.

    Views are floats (N,3,S,S) in [0, 1], not normalised. Every parameter is drawn for each image
    from torch's global generator; the order of the four jitter steps is drawn once a batch.
    """

    def __init__(self, parameters: ViewParameters, size: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(*_steps(parameters, size))

    @torch.no_grad()
    def forward(self, images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
        """Draw one view of every crop."""
        with torch.autocast(images.device.type, enabled=False):
            view: Tensor = self.steps(to_unit(images))
        return view.clamp_(0, 1)


def _steps(p: ViewParameters, size: int) -> list[nn.Module]:
    """The steps of a view in order; those that never happen are left out."""
    colour: list[nn.Module] = []
    strengths = (p.jitter_brightness, p.jitter_contrast, p.jitter_saturation, p.jitter_hue)
    if p.jitter_p and any(strengths):
        colour.append(K.ColorJitter(*strengths, p=p.jitter_p))
    if p.grey_p:
        grey = K.RandomGrayscale(p=p.grey_p)
        colour.insert(0 if p.grey_first else len(colour), grey)
    if p.blur_p:
        colour.append(_blur(p, size))
    flip = [K.RandomHorizontalFlip(p=p.flip_p)] if p.flip_p else []
    return [*colour, *flip]


def _blur(p: ViewParameters, size: int) -> nn.Module:
    """A Gaussian cut at three sigma, and to less than the image as reflection needs."""
    radius = min(int(3 * p.blur_sigma_max + 0.5), size - 1)
    kernel = 2 * radius + 1
    sigma = (p.blur_sigma_min, p.blur_sigma_max)
    blur: nn.Module = K.RandomGaussianBlur((kernel, kernel), sigma, p=p.blur_p)
    return blur


def build_view(config: ViewConfig, size: int) -> View:
    """A module from crops (N,3,size,size) uint8 to a float view in [0, 1] of each.

    The crops are those of :meth:`ViewConfig.crops`. The same state of torch's generator gives the
    same views.
    """
    return View(config.parameters(), size)


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
        """Normalise images in [0, 1]."""
        return (images - self.mean) / self.std


class EvalTransform(nn.Module):
    """uint8 (N,3,S,S) to normalised float, nothing random."""

    def __init__(self, normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Scale to [0, 1] and normalise."""
        normalised: Tensor = self.normalize(to_unit(images))
        return normalised


def eval_transform(
    mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> EvalTransform:
    """The transform of evaluation: uint8 to normalised float."""
    return EvalTransform(Normalize(mean, std))
