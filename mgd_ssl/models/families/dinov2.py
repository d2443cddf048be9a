"""DINOv2's files: facebookresearch/dinov2, with and without registers.

Source: Oquab et al., arXiv 2304.07193; Darcet et al., arXiv 2309.16588.
"""

from collections.abc import Mapping
from pathlib import Path

from mgd_ssl.models.families.family import (
    Family,
    Remapped,
    State,
    Terms,
    fitted,
    renamed,
    shape_of,
    take,
)
from mgd_ssl.models.families.vit_shapes import PATCHES, grid, is_gated, measure_vit
from mgd_ssl.models.specs import BackboneSpec

SIZES = {384: "small", 768: "base", 1024: "large"}
PATCH = 14
REGISTERS = 4
RULES = {
    r"^blocks\.\d+\.(\d+)\.": r"blocks.\1.",  # training keeps the blocks in chunks
    r"\.mlp\.w12\.": ".mlp.fc1.",
    r"\.mlp\.w3\.": ".mlp.fc2.",
}


class DinoV2(Family):
    """ViT-S, B, L and g with patches of 14 pixels; others that its code trains."""

    name = "dinov2"
    anchors = (PATCHES,)
    terms = Terms("Apache-2.0", publisher="Meta")
    resizes = True

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its mask token of two dimensions, learned positions and LayerScale."""
        shape = getattr(state.get("mask_token"), "shape", ())
        scaled = any(key.endswith(".ls1.gamma") for key in state)
        return len(shape) == 2 and "pos_embed" in state and scaled

    def remap(self, state: State) -> Remapped:
        """Registers stand between the class token and the patches and have no position.

        timm's network with registers adds no position to the class token, so that its position is
        added to the token itself.
        """
        state = renamed(state, RULES)
        aside = take(state, "mask_token")
        if {"register_tokens", "cls_token", "pos_embed"} <= state.keys():
            positions = state["pos_embed"].float()
            state["reg_token"] = state.pop("register_tokens")
            state["cls_token"] = state["cls_token"].float() + positions[:, :1]
            state["pos_embed"] = positions[:, 1:]
        return Remapped(state, aside=aside)

    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """The published size whose tokens are as wide, else the smallest with other options."""
        shapes = read.shapes
        if grid(shape_of(shapes, "pos_embed", 3)[1], 1)[1] == ("reg_token" in shapes):
            raise ValueError(
                f"pos_embed: got {shapes['pos_embed'][1]} positions, expected one more than a "
                "square grid's, the class token's"
            )
        registers = "_reg4" if "reg_token" in shapes else ""
        size = "giant" if is_gated(shapes) else SIZES.get(shapes[PATCHES][0], "small")
        return fitted(arch or f"timm/vit_{size}_patch14{registers}_dinov2", read, measure_vit)


class TimmDinoV2(DinoV2):
    """timm's DINOv2, whose entries have the network's names."""

    name = "dinov2, timm"

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By patches of 14 pixels, LayerScale, a class token, and four registers or none."""
        patches = getattr(state.get(PATCHES), "shape", (0,))
        named = {"cls_token", "pos_embed", "blocks.0.ls1.gamma", "blocks.0.attn.qkv.weight"}
        registers = getattr(state.get("reg_token"), "shape", (1, REGISTERS))[1]
        return patches[-1] == PATCH and state.keys() >= named and registers == REGISTERS

    def remap(self, state: State) -> Remapped:
        """As they are."""
        return Remapped(state)
