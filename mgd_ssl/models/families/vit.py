"""Plain vision transformers under timm's names: timm's files, DeiT's, DINO's and their like."""

import re
from collections.abc import Mapping
from pathlib import Path

from mgd_ssl.models.families.family import Family, Remapped, State, Terms, fitted, shape_of, take
from mgd_ssl.models.families.vit_shapes import PATCHES, measure_vit
from mgd_ssl.models.known_networks import names_of
from mgd_ssl.models.specs import BackboneSpec

SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
# Of each size timm has these patches by name; others are an option of the first.
PATCH_SIDES = {
    "tiny": (16,),
    "small": (16, 8, 32),
    "base": (16, 8, 32),
    "large": (16, 14, 32),
    "huge": (14,),
}
NEEDED = {PATCHES, "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"}
# What other transformers have beside these: BEiT, EVA, CLIP, SigLIP, distilled DeiT.
OTHERS = re.compile(r"norm_pre\.|attn_pool\.|dist_token|rope|.*(gamma_1$|_bias$|relative_position)")
DINO = re.compile(r"dino_(deit|vit)")


class PlainVit(Family):
    """timm's VisionTransformer of learned positions and plain blocks."""

    name = "vit"
    anchors = (PATCHES,)

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its blocks, and by what it does not have."""
        return state.keys() >= NEEDED and not any(map(OTHERS.match, state))

    def remap(self, state: State) -> Remapped:
        """As they are, but for what masked training leaves."""
        state = dict(state)
        return Remapped(state, aside=take(state, "mask_token"))

    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """timm's only network of these entries; else the size of as wide tokens, and patches."""
        if arch or len(names := names_of(read.shapes)) == 1:
            return fitted(arch or names[0], read, measure_vit)
        width, _, patch, _ = shape_of(read.shapes, PATCHES, 4)
        size = SIZES.get(width, "base")
        sides = PATCH_SIDES[size]
        name = f"vit_{size}_patch{patch if patch in sides else sides[0]}_224"
        return fitted(f"timm/{name}", read, measure_vit)

    def terms_of(self, path: Path) -> Terms | None:
        """DINO's, where the file is called as its authors call theirs."""
        return Terms("Apache-2.0", publisher="Meta") if DINO.search(path.name) else self.terms
