"""Networks of Hugging Face's transformers: Dinov2, with and without registers, and DINOv3's ViT.

Their entries are given the names of the authors' own files first, and are then read as those.
"""

from collections.abc import Mapping, Sequence

import torch

from mgd_ssl.models.families.dinov2 import DinoV2
from mgd_ssl.models.families.dinov3 import RULES as DINOV3_RULES
from mgd_ssl.models.families.dinov3 import TimmDinoV3
from mgd_ssl.models.families.family import Remapped, State, renamed, take

BLOCK = r"^(?:model\.|encoder\.)?layer\.(\d+)\."
SHARED = {
    BLOCK: r"blocks.\1.",
    r"^embeddings\.(cls_token|mask_token|register_tokens)$": r"\1",
    r"\.layer_scale([12])\.lambda1$": r".ls\1.gamma",
    r"\.attention\.attention\.(query|key|value)\.": r".attn.\1.",
    r"\.attention\.(?:output\.dense|o_proj)\.": ".attn.proj.",
    r"\.attention\.q_proj\.": ".attn.query.",
    r"\.attention\.k_proj\.": ".attn.key.",
    r"\.attention\.v_proj\.": ".attn.value.",
}
DINOV2 = SHARED | {
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"\.mlp\.weights_in\.": ".mlp.w12.",
    r"\.mlp\.(?:weights_out|down_proj)\.": ".mlp.w3.",
    r"^layernorm\.": "norm.",
}
DINOV3 = SHARED | {
    r"^embeddings\.patch_embeddings\.": "patch_embed.proj.",
    r"^register_tokens$": "storage_tokens",
}
# An MLP of two projections has these names whether or not it has a gate beside them.
GATED = {".gate_proj.": ".w1.", ".up_proj.": ".w2.", ".down_proj.": ".w3."}
PLAIN = {".up_proj.": ".fc1.", ".down_proj.": ".fc2."}


class HuggingFaceDinoV2(DinoV2):
    """Dinov2Model and Dinov2WithRegistersModel, alone or in a larger network."""

    name = "dinov2, Hugging Face"
    anchors = ("embeddings.patch_embeddings.projection.weight",)

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its mask token and LayerScale under transformers' names."""
        scaled = any(key.endswith(".layer_scale1.lambda1") for key in state)
        return scaled and {"embeddings.mask_token", *self.anchors} <= state.keys()

    def remap(self, state: State) -> Remapped:
        """Queries, keys and values in one matrix; the two halves of a SwiGLU, too."""
        state = renamed(state, DINOV2)
        fuse(state, [".attn.query.", ".attn.key.", ".attn.value."], ".attn.qkv.")
        fuse(state, [".mlp.gate_proj.", ".mlp.up_proj."], ".mlp.w12.")
        read = super().remap(state)
        return Remapped(read.state, aside=("embeddings.mask_token",))


class HuggingFaceDinoV3(TimmDinoV3):
    """DINOv3ViTModel, alone or in a larger network."""

    name = "dinov3, Hugging Face"
    anchors = ("embeddings.patch_embeddings.weight",)

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its patches and LayerScale under transformers' names, without positions."""
        scaled = any(key.endswith(".layer_scale1.lambda1") for key in state)
        known = {"embeddings.cls_token", *self.anchors} <= state.keys()
        return scaled and known and "embeddings.position_embeddings" not in state

    def remap(self, state: State) -> Remapped:
        """Queries, keys and values in one matrix; keys have no biases."""
        gated = any(".mlp.gate_proj." in key for key in state)
        aside = tuple(key for key in state if key == "embeddings.mask_token")
        state = renamed(state, DINOV3)
        take(state, "mask_token")
        mlp = {
            f"mlp{old}".replace(".", r"\."): f"mlp{new}"
            for old, new in (GATED if gated else PLAIN).items()
        }
        biases = {r"\.attn\.query\.bias$": ".attn.q_bias", r"\.attn\.value\.bias$": ".attn.v_bias"}
        fuse(state, [".attn.query.", ".attn.key.", ".attn.value."], ".attn.qkv.", "weight")
        return Remapped(renamed(state, mlp | biases | DINOV3_RULES), aside=aside)


def fuse(state: State, parts: Sequence[str], whole: str, kind: str = "") -> None:
    """Put entries that differ in a part of their names into one, in the order of the parts.

    Where a part is missing, the others are left: they are reported under their own names.

    Args:
        state: changed in place.
        parts: of the names.
        whole: what stands in their place.
        kind: how the names end; any end unless given.
    """
    for key in [key for key in state if parts[0] in key and key.endswith(kind)]:
        names = [key.replace(parts[0], part) for part in parts]
        if all(name in state for name in names):
            state[key.replace(parts[0], whole)] = torch.cat([state.pop(name) for name in names])
