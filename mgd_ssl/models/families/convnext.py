"""ConvNeXt: its authors' files, DINOv3's, Hugging Face's DINOv3 and timm's.

DINOv3's class token is the mean of the last map, then normed, as ConvNeXt's own pooled features.

Source: Liu et al., arXiv 2201.03545; Siméoni et al., arXiv 2508.10104.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mgd_ssl.models.families.dinov3 import TERMS
from mgd_ssl.models.families.family import (
    Family,
    Remapped,
    Shapes,
    State,
    Terms,
    count_blocks,
    fitted,
    is_named,
    renamed,
    shape_of,
    take,
)
from mgd_ssl.models.specs import BackboneSpec, Option

STAGES = range(4)
SIZES = {
    ((3, 3, 9, 3), 96): "tiny",
    ((3, 3, 27, 3), 96): "small",
    ((3, 3, 27, 3), 128): "base",
    ((3, 3, 27, 3), 192): "large",
    ((3, 3, 27, 3), 256): "xlarge",
}
# What the norm of DINOv3's last stage is called a second time.
AGAIN = r"norms\.3\.(weight|bias)"
RULES = {
    r"^downsample_layers\.0\.": "stem.",
    r"^downsample_layers\.(\d)\.": r"stages.\1.downsample.",
    r"^stages\.(\d)\.(\d+)\.": r"stages.\1.blocks.\2.",
    r"\.dwconv\.": ".conv_dw.",
    r"\.pwconv([12])\.": r".mlp.fc\1.",
    r"^norm\.": "head.norm.",
    r"^head\.(weight|bias)$": r"head.fc.\1",
}
HUGGING_FACE = {
    r"^model\.": "",
    r"^stages\.0\.downsample_layers\.": "stem.",
    r"^stages\.(\d)\.downsample_layers\.": r"stages.\1.downsample.",
    r"^stages\.(\d)\.layers\.(\d+)\.": r"stages.\1.blocks.\2.",
    r"\.depthwise_conv\.": ".conv_dw.",
    r"\.pointwise_conv([12])\.": r".mlp.fc\1.",
    r"\.layer_norm\.": ".norm.",
    r"^layer_norm\.": "head.norm.",
}


class TimmConvNeXt(Family):
    """timm's ConvNeXt-T, S, B, L and XL, whose entries have the network's names."""

    name = "convnext, timm"
    attends = False
    anchors: ClassVar[tuple[str, ...]] = ("stages.0.blocks.0.conv_dw.weight",)

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its depthwise convolutions, linear MLPs and LayerScale; not ConvNeXt V2."""
        linear = getattr(state.get("stages.0.blocks.0.mlp.fc1.weight"), "ndim", 0) == 2
        return linear and {*self.anchors, "stages.0.blocks.0.gamma"} <= state.keys()

    def remap(self, state: State) -> Remapped:
        """As they are."""
        return Remapped(state)

    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """The published size of those depths and widths, else the smallest with other ones."""
        found = measure_convnext(read.shapes)
        size = SIZES.get((found["depths"], found["dims"][0]), "tiny")  # type: ignore[arg-type,index]
        return fitted(arch or f"timm/convnext_{size}", read, measure_convnext)

    def terms_of(self, path: Path) -> Terms | None:
        """DINOv3's, where the file is called by it: timm's files of both are alike."""
        return TERMS if is_named(path, "dinov3") else self.terms


class ConvNeXt(TimmConvNeXt):
    """facebookresearch/ConvNeXt."""

    name = "convnext"
    anchors = ("downsample_layers.0.0.weight",)

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By the convolutions between its stages and its LayerScale."""
        return {*self.anchors, "stages.0.0.gamma"} <= state.keys()

    def remap(self, state: State) -> Remapped:
        """The stem is the first of the convolutions between stages."""
        return Remapped(renamed(state, RULES))


class DinoV3ConvNeXt(ConvNeXt):
    """ConvNeXt-T, S, B and L of facebookresearch/dinov3."""

    name = "dinov3, ConvNeXt"
    terms = TERMS
    resizes = True

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its last norm, which the file holds twice."""
        return super().recognizes(state) and "norms.3.weight" in state

    def remap(self, state: State) -> Remapped:
        """The second copy of the last norm is left, where it is one."""
        state = dict(state)
        aside = tuple(key for key in state if re.fullmatch(AGAIN, key) and _is_copy(state, key))
        for key in aside:
            del state[key]
        aside += take(state, r"projectors\..+|mask_token")
        return Remapped(super().remap(state).state, aside=aside)


class HuggingFaceDinoV3ConvNeXt(TimmConvNeXt):
    """DINOv3ConvNextModel of transformers."""

    name = "dinov3, ConvNeXt, Hugging Face"
    anchors = ("stages.0.downsample_layers.0.weight", "model.stages.0.downsample_layers.0.weight")
    terms = TERMS
    resizes = True

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By the convolutions between its stages, and its last norm beside them."""
        return any(a in state for a in self.anchors) and "layer_norm.weight" in state

    def remap(self, state: State) -> Remapped:
        """The stem is the first of the convolutions between stages."""
        return Remapped(renamed(state, HUGGING_FACE))


def measure_convnext(shapes: Shapes) -> dict[str, Option]:
    """Depths and widths of the four stages.

    Raises:
        ValueError: a stage's first block is missing or malformed.
    """
    first = [f"stages.{stage}.blocks.0.conv_dw.weight" for stage in STAGES]
    return {
        "dims": tuple(shape_of(shapes, key, 4)[0] for key in first),
        "depths": tuple(count_blocks(shapes, f"stages.{stage}.blocks.") for stage in STAGES),
    }


def _is_copy(state: State, key: str) -> bool:
    own = state.get(key.replace("norms.3.", "norm."))
    same = own is not None and own.shape == state[key].shape
    return same and (own.is_meta or bool((own == state[key]).all()))  # type: ignore[union-attr]
