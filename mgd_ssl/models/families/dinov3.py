"""DINOv3's vision transformers: facebookresearch/dinov3's files, and timm's.

Its networks have no learned positions: queries and keys are turned by the place of their patch.
Key biases are always zero; the files hold a mask that makes them so.

Source: Siméoni et al., arXiv 2508.10104.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mgd_ssl.images import Rgb
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
from mgd_ssl.models.families.vit_shapes import PATCHES, ratio
from mgd_ssl.models.specs import BackboneSpec, Option

SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 4096: "7b"}
GATED_SIZES = {384: "small_plus", 1280: "huge_plus", 4096: "7b"}
RULES = {
    r"^storage_tokens$": "reg_token",
    r"\.ls([12])\.gamma$": r".gamma_\1",
    r"\.mlp\.w1\.": ".mlp.fc1_g.",
    r"\.mlp\.w2\.": ".mlp.fc1_x.",
    r"\.mlp\.w3\.": ".mlp.fc2.",
}
PERIODS = "rope_embed.periods"
# What training alone uses: masked patches, a norm of small crops, EUPE's heads.
TRAINING = r"mask_token|local_cls_norm\..+|projectors\..+"
SATELLITE = "sat493m"
SATELLITE_NORMALIZATION: tuple[Rgb, Rgb] = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
TERMS = Terms(
    "DINOv3 License",
    "whoever passes them on gives a copy of the license and says “Built with DINOv3”",
    publisher="Meta",
)
EUPE = Terms("FAIR Noncommercial Research License", "no commercial use", publisher="Meta")


class TimmDinoV3(Family):
    """timm's DINOv3, whose entries have the network's names."""

    name = "dinov3, timm"
    anchors = (PATCHES,)
    terms = TERMS
    resizes = True

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By registers and LayerScale without learned positions."""
        return {"reg_token", "blocks.0.gamma_1"} <= state.keys() and "pos_embed" not in state

    def remap(self, state: State) -> Remapped:
        """As they are."""
        return Remapped(state)

    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """The published size of that width, else the nearest with other options."""
        width = shape_of(read.shapes, PATCHES, 4)[0]
        if "blocks.0.mlp.fc1_g.weight" in read.shapes:
            size = GATED_SIZES.get(width, "small_plus")
        else:
            size = SIZES.get(width, "small")
        biased = size == "tiny" or ("blocks.0.attn.q_bias" in read.shapes and size != "7b")
        name = f"timm/vit_{size}_patch16_dinov3{'_qkvb' * biased}"
        return fitted(arch or name, read, measure_dinov3)

    def normalization_of(self, path: Path) -> tuple[Rgb, Rgb] | None:
        """Of the networks of satellite images, which their names alone tell."""
        return SATELLITE_NORMALIZATION if is_named(path, SATELLITE) else None

    def terms_of(self, path: Path) -> Terms | None:
        """EUPE's networks are DINOv3's, and published under other terms."""
        return EUPE if is_named(path, "eupe") else self.terms

    def remarks(self, spec: BackboneSpec, read: Remapped, path: Path) -> list[str]:
        """Where the file's name tells its normalization, too."""
        said = super().remarks(spec, read, path)
        if self.normalization_of(path):
            said += ["normalized as satellite images (SAT-493M), as the file's name says"]
        return said


class DinoV3(TimmDinoV3):
    """ViT-S, S+, B, L, H+ and 7B with patches of 16 pixels; others that its code trains."""

    name = "dinov3"

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its storage tokens, or its periods where a network was trained without them."""
        return PATCHES in state and ("storage_tokens" in state or PERIODS in state)

    def remap(self, state: State) -> Remapped:
        """timm holds the biases of queries and values apart, and none of keys.

        Raises:
            ValueError: a key bias is not zero, or the periods are of no whole number of heads.
        """
        state, heads = dict(state), _heads(state)
        for key in [key for key in state if key.endswith(".attn.qkv.bias")]:
            bias, mask = state.pop(key), state.get(f"{key}_mask")
            state |= _split_biases(key, bias, mask)
        aside = take(state, rf"{TRAINING}|rope_embed\.periods|blocks\.\d+\.attn\.qkv\.bias_mask")
        return Remapped(renamed(state, RULES), aside=aside, heads=heads)

    def finish(self, network: nn.Module, state: State) -> None:
        """Turn by the file's periods, which its authors store, and use, in bfloat16's precision."""
        periods = state.get(PERIODS)
        rope = getattr(network, "rope", None)
        if periods is not None and rope is not None:
            rope.periods.copy_(periods)


def measure_dinov3(shapes: Shapes) -> dict[str, Option]:
    """Options of timm's Eva by the entries of a DINOv3.

    Raises:
        ValueError: an entry is missing or malformed.
    """
    width, _, patch, other = shape_of(shapes, PATCHES, 4)
    if patch != other:
        raise ValueError(f"{PATCHES}: got patches of {patch}×{other} pixels, expected square ones")
    gated = "blocks.0.mlp.fc1_g.weight" in shapes
    hidden = shape_of(shapes, f"blocks.0.mlp.{'fc1_g' if gated else 'fc1'}.weight", 2)[0]
    found: dict[str, Option] = {
        "embed_dim": width,
        "depth": count_blocks(shapes),
        "patch_size": patch,
        "mlp_ratio": ratio(hidden, width),
        "swiglu_mlp": gated,
        "num_reg_tokens": shapes["reg_token"][1] if "reg_token" in shapes else 0,
        "qkv_bias": "blocks.0.attn.q_bias" in shapes,
    }
    if "blocks.0.gamma_1" in shapes:
        found["init_values"] = 1e-5
    return found


def _heads(state: State) -> int | None:
    """Attention heads, each of four times as many channels as there are periods."""
    if PERIODS not in state or "cls_token" not in state:
        return None
    periods, width = state[PERIODS].shape, state["cls_token"].shape[-1]
    if len(periods) != 1 or not periods[0] or width % (4 * periods[0]):
        raise ValueError(
            f"{PERIODS}: got the shape {tuple(periods)} and tokens of {width} channels, expected a "
            "quarter of a head's channels"
        )
    return int(width // (4 * periods[0]))


def _split_biases(key: str, bias: Tensor, mask: Tensor | None) -> State:
    """Biases of queries and values; those of keys, masked as the authors do, must be none."""
    if bias.ndim != 1 or len(bias) % 3 or (mask is not None and mask.shape != bias.shape):
        raise ValueError(f"{key}: got the shape {tuple(bias.shape)}, expected three equal parts")
    masked = bias.float() if mask is None else bias.float() * mask.float()
    query, keys, value = masked.chunk(3)
    if not keys.is_meta and bool((keys != 0).any()):
        raise ValueError(
            f"{key}: got key biases that are not zero, expected DINOv3's, whose mask makes them "
            "zero; give the authors' file with its bias_mask"
        )
    if torch.isnan(masked).any() if not masked.is_meta else False:
        raise ValueError(f"{key}_mask: got values that are NaN, expected ones and zeros")
    stem = key.removesuffix("qkv.bias")
    return {f"{stem}q_bias": query, f"{stem}v_bias": value}
