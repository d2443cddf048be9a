"""What it takes to build a backbone again: plain values, saved with every checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

WIDEST = 16
Option = int | float | str | tuple[int, ...]
Options = Mapping[str, Option]
# Arguments of timm's networks that a description may set, and their largest values. Nothing else
# passes from a file to timm: among its arguments are addresses and paths.
WHOLE = {
    "img_size": 1 << 14,
    "patch_size": 1 << 10,
    "embed_dim": 1 << 14,
    "depth": 1 << 9,
    "num_heads": 1 << 9,
    "reg_tokens": 1 << 8,
    "num_reg_tokens": 1 << 8,
}
FACTORS = {"mlp_ratio": 64.0, "init_values": 16.0, "rope_temperature": 1e6}
WORDS = {"global_pool": ("token", "avg", "map")}
FLAGS = ("class_token", "no_embed_class", "qkv_bias", "swiglu_mlp", "pre_norm", "fc_norm")
LISTS = {"depths": 1 << 9, "dims": 1 << 14}


@dataclass(frozen=True)
class BackboneSpec:
    """What it takes to build a backbone again; saved with every checkpoint.

    Attributes:
        arch: a torchvision name, a timm name (``timm/NAME`` forces timm) or ``module:function``.
        width: factor on every channel count; ResNets and MobileNet v2.
        stem: ``imagenet`` leaves the network as it is; ``small``, for images of 28 to 96
            pixels, makes the first convolution 3×3 and takes the max-pool out.
        stem_stride: stride of the small stem's convolution.
        options: arguments of a timm network that differ from its own, by name.
    """

    arch: str = "resnet18"
    width: float = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"
    stem_stride: Literal[1, 2] = 1
    options: Options = ()  # type: ignore[assignment]  # pairs, so that a spec can be hashed

    def __post_init__(self) -> None:
        if not 0 < self.width <= WIDEST:
            raise ValueError(
                f"width: got {self.width}, expected a factor above 0, at most {WIDEST}"
            )
        if self.stem not in ("imagenet", "small"):
            raise ValueError(f"stem: got {self.stem!r}, expected 'imagenet' or 'small'")
        if self.stem_stride not in (1, 2):
            raise ValueError(f"stem_stride: got {self.stem_stride}, expected 1 or 2")
        pairs = {name: check_option(name, v) for name, v in dict(self.options).items()}
        object.__setattr__(self, "options", tuple(sorted(pairs.items())))

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; options only where there are some."""
        values = asdict(self)
        values["options"] = dict(self.options)
        return values if self.options else {k: v for k, v in values.items() if k != "options"}


def check_option(name: str, value: Any) -> Option:
    """An option's value, a list as a tuple.

    Raises:
        ValueError: an option that no description may set, or a value out of its range.
    """
    known = [*WHOLE, *FACTORS, *WORDS, *FLAGS, *LISTS]
    if name not in known:
        raise ValueError(f"options: got {name!r}, expected some of {', '.join(known)}")
    if isinstance(value, list | tuple) and name in LISTS:
        if value and all(_is_whole(v, LISTS[name]) for v in value):
            return tuple(value)
    elif (
        (name in WHOLE and _is_whole(value, WHOLE[name]))
        or (name in FACTORS and _is_factor(value, FACTORS[name]))
        or (name in FLAGS and isinstance(value, bool))
        or (name in WORDS and value in WORDS[name])
    ):
        return value  # type: ignore[no-any-return]
    raise ValueError(f"options: got {value!r} for {name}, expected {_expected(name)}")


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_factor(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most


def _expected(name: str) -> str:
    if name in WHOLE:
        return f"a whole number of at most {WHOLE[name]}"
    if name in FACTORS:
        return f"a number above 0, at most {FACTORS[name]:g}"
    if name in WORDS:
        return f"one of {', '.join(WORDS[name])}"
    return "true or false" if name in FLAGS else f"whole numbers of at most {LISTS[name]}"
