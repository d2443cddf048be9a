"""Image towers of CLIP and SigLIP: open_clip's files, whose text towers are left, and timm's.

CLIP's features are its class token before the projection to the text's space, which is a head;
SigLIP's are pooled by attention.

Source: Radford et al., arXiv 2103.00020; Zhai et al., arXiv 2303.15343.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mgd_ssl.images import Rgb
from mgd_ssl.models.families.family import (
    Family,
    Remapped,
    State,
    fitted,
    is_named,
    renamed,
    shape_of,
    take,
)
from mgd_ssl.models.families.vit_shapes import PATCHES, measure_vit
from mgd_ssl.models.specs import BackboneSpec

CLIP_NORMALIZATION: tuple[Rgb, Rgb] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
HALVES: tuple[Rgb, Rgb] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIZES = {768: "base", 1024: "large", 1280: "huge", 1408: "giant", 1664: "gigantic"}
RULES = {
    r"^conv1\.": "patch_embed.proj.",
    r"^class_embedding$": "cls_token",
    r"^positional_embedding$": "pos_embed",
    r"^ln_pre\.": "norm_pre.",
    r"^ln_post\.": "norm.",
    r"^transformer\.resblocks\.": "blocks.",
    r"\.ln_([12])\.": r".norm\1.",
    r"\.ls_([12])\.": r".ls\1.",
    r"\.attn\.in_proj_": ".attn.qkv.",
    r"\.attn\.out_proj\.": ".attn.proj.",
    r"\.mlp\.c_fc\.": ".mlp.fc1.",
    r"\.mlp\.c_proj\.": ".mlp.fc2.",
}
# Published networks compute one of two activations, which no entry shows; their names do.
QUICK = ("openai", "metaclip", "dfn", "quickgelu")
EXACT = ("laion", "datacomp", "commonpool", "dataconcept")


class TimmClip(Family):
    """timm's image towers of CLIP, whose entries have the network's names."""

    name = "clip, timm"
    anchors: ClassVar[tuple[str, ...]] = (PATCHES,)
    normalization = CLIP_NORMALIZATION

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By the norm before its blocks."""
        return {PATCHES, "norm_pre.weight", "cls_token", "pos_embed"} <= state.keys()

    def remap(self, state: State) -> Remapped:
        """As they are."""
        return Remapped(state)

    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """The size of that width, with the activation that the file's name tells.

        Raises:
            ValueError: nothing tells the activation, and the user does not name the architecture.
        """
        width, _, patch, _ = shape_of(read.shapes, PATCHES, 4)
        size = SIZES.get(width, "base")
        sides = (16, 32) if size == "base" else (14,)
        stem, side = f"timm/vit_{size}_patch", patch if patch in sides else sides[0]
        plain, quick = f"{stem}{side}_clip_224", f"{stem}{side}_clip_quickgelu_224"
        told = [name for name, words in ((quick, QUICK), (plain, EXACT)) if _says(path, words)]
        if arch is None and size != "giant" and len(told) != 1:
            raise ValueError(
                "a CLIP whose activation no entry shows: QuickGELU in OpenAI's, MetaCLIP's and "
                f"DFN's networks, GELU in LAION's and DataComp's; name it: --arch {quick} or "
                f"--arch {plain}, of a teacher --teacher-arch"
            )
        return fitted(arch or (told[0] if size != "giant" else plain), read, measure_vit)

    def remarks(self, spec: BackboneSpec, read: Remapped, path: Path) -> list[str]:
        """The activation, where it is the file's name that tells it."""
        kind = "QuickGELU" if "quickgelu" in spec.arch else "GELU"
        said = f"activation {kind}, as the file's name says" if _says(path, QUICK + EXACT) else ""
        return super().remarks(spec, read, path) + ([said] if said else [])


class Clip(TimmClip):
    """open_clip's image towers, and OpenAI's as a state dict."""

    name = "clip"
    anchors = ("class_embedding",)

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By the names of an image tower; a text tower has no class embedding."""
        return {
            "class_embedding",
            "conv1.weight",
            "ln_pre.weight",
            "ln_post.weight",
        } <= state.keys()

    def remap(self, state: State) -> Remapped:
        """The tower without the projection."""
        state = renamed(state, RULES)
        head = take(state, "proj")
        if "cls_token" in state:
            state["cls_token"] = state["cls_token"].reshape(1, 1, -1)
        if "pos_embed" in state:
            state["pos_embed"] = state["pos_embed"][None]
        return Remapped(state, head=head)


class SigLip(Family):
    """SigLIP's image towers under timm's names, alone or in open_clip's files."""

    name = "siglip"
    anchors = (PATCHES,)
    normalization = HALVES

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its pooling."""
        return {PATCHES, "attn_pool.latent", "pos_embed"} <= state.keys()

    def remap(self, state: State) -> Remapped:
        """As they are."""
        return Remapped(state)

    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """The size of that width and patch, else the smallest with other options."""
        width, _, patch, _ = shape_of(read.shapes, PATCHES, 4)
        name = {
            (768, 32): "base_patch32_siglip_256",
            (1024, 16): "large_patch16_siglip_256",
            (1152, 14): "so400m_patch14_siglip_224",
            (1152, 16): "so400m_patch16_siglip_256",
            (1536, 16): "giantopt_patch16_siglip_256",
        }.get((width, patch), "base_patch16_siglip_224")
        return fitted(arch or f"timm/vit_{name}", read, measure_vit)


def _says(path: Path, words: tuple[str, ...]) -> bool:
    return any(is_named(path, word) for word in words)
