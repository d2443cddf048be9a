"""MoCo v3's vision transformers: facebookresearch/moco-v3.

Their ViT-S has twelve attention heads, twice as many as others of its width: no shape shows it, and
their fixed positions do.

Source: Chen, Xie, He, arXiv 2104.02057.
"""

from collections.abc import Mapping
from pathlib import Path

from mgd_ssl.models.families.family import Remapped, State, Terms
from mgd_ssl.models.families.positions import are_positions_of
from mgd_ssl.models.families.vit import PlainVit
from mgd_ssl.models.specs import BackboneSpec

SMALL, HEADS = 384, 12


class MocoV3(PlainVit):
    """ViT-S and B, and those that its code trains."""

    name = "moco v3"
    terms = Terms("CC BY-NC 4.0", "no commercial use", publisher="Meta")

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its fixed positions: rows come before columns."""
        return super().recognizes(state) and are_positions_of(state["pos_embed"], "rows")

    def remap(self, state: State) -> Remapped:
        """As they are; a ViT-S has the heads that its authors gave it."""
        read = super().remap(state)
        heads = HEADS if state["pos_embed"].shape[-1] == SMALL else None
        return Remapped(read.state, read.head, read.aside, heads)

    def remarks(self, spec: BackboneSpec, read: Remapped, path: Path) -> list[str]:
        """Where the heads are told by the positions, too."""
        said = f"{read.heads} attention heads, as MoCo v3's ViT-S has" if read.heads else ""
        return super().remarks(spec, read, path) + ([said] if said else [])
