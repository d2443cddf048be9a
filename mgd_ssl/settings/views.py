"""Options of the random views, and presets of them."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from mgd_ssl.settings.options import one_of


@dataclass(frozen=True)
class ViewOptions:
    """Parameters of a random view of an image.

    Raises:
        ValueError: a parameter out of its range.
    """

    crop_min: float = 0.2
    """Smallest area of the crop, as a share of the image."""
    crop_max: float = 1.0
    """Largest area of the crop, as a share of the image."""
    flip_p: float = 0.5
    """Probability of a horizontal flip."""
    jitter_brightness: float = 0.0
    """x: the factor of the brightness is drawn from [1 - x, 1 + x]."""
    jitter_contrast: float = 0.0
    """x: the factor of the contrast is drawn from [1 - x, 1 + x]."""
    jitter_saturation: float = 0.0
    """x: the factor of the saturation is drawn from [1 - x, 1 + x]."""
    jitter_hue: float = 0.0
    """x: the shift of the hue is drawn from [-x, x], in turns of the hue circle; at most 0.5."""
    jitter_p: float = 0.0
    """Probability of the color jitter."""
    gray_p: float = 0.0
    """Probability of grayscale."""
    gray_first: bool = False
    """Grayscale before the color jitter, as in MoCo v1, rather than after it."""
    blur_p: float = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma_min: float = 0.1
    """Smallest sigma of the blur, in pixels."""
    blur_sigma_max: float = 2.0
    """Largest sigma of the blur, in pixels."""

    def __post_init__(self) -> None:
        def demand(holds: bool, what: str, expected: str) -> None:
            if not holds:
                raise ValueError(f"view parameter {what}; expected {expected}.")

        crop = f"crop_min={self.crop_min}, crop_max={self.crop_max}"
        demand(0 < self.crop_min <= self.crop_max <= 1, crop, "0 < crop_min <= crop_max <= 1")
        for name in ("flip_p", "jitter_p", "gray_p", "blur_p"):
            value = getattr(self, name)
            demand(0 <= value <= 1, f"{name}={value}", "a probability in [0, 1]")
        for name in ("jitter_brightness", "jitter_contrast", "jitter_saturation"):
            value = getattr(self, name)
            demand(0 <= value <= 1, f"{name}={value}", "a strength in [0, 1]")
        hue = f"jitter_hue={self.jitter_hue}"
        demand(0 <= self.jitter_hue <= 0.5, hue, "at most half a turn, [0, 0.5]")
        low, high = self.blur_sigma_min, self.blur_sigma_max
        sigma = f"blur_sigma_min={low}, blur_sigma_max={high}"
        demand(0 < low <= high, sigma, "0 < blur_sigma_min <= blur_sigma_max")


# moco_v1 and moco_v2 are those of the papers; small is for 28 to 64 pixels; crops is for students
# that imitate a teacher, and for classifiers of small images; linear is for MoCo's linear probe.
PRESETS: dict[str, ViewOptions] = {
    "moco_v1": ViewOptions(0.2, 1.0, 0.5, 0.4, 0.4, 0.4, 0.4, 1.0, gray_p=0.2, gray_first=True),
    "moco_v2": ViewOptions(0.2, 1.0, 0.5, 0.4, 0.4, 0.4, 0.1, 0.8, gray_p=0.2, blur_p=0.5),
    "small": ViewOptions(0.2, 1.0, 0.5, 0.4, 0.4, 0.2, 0.05, 0.8, gray_p=0.1),
    "crops": ViewOptions(crop_min=0.5),
    "linear": ViewOptions(crop_min=0.08),
}


@dataclass(frozen=True)
class PresetViews(ViewOptions):
    """Parameters of the random views: a preset, whose values can be overridden."""

    preset: Annotated[str, one_of(PRESETS)] = "moco_v2"
    """Views of MoCo v1 or v2; small: weaker colors, for 28 to 64 pixels; crops: no small crops, no
    change of colors; linear: MoCo's linear probe."""


def preset(name: str, **changed: Any) -> PresetViews:
    """The views of a preset, some values changed."""
    values = {f.name: getattr(PRESETS[name], f.name) for f in fields(ViewOptions)}
    return replace(PresetViews(**values, preset=name), **changed)
