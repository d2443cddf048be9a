"""MAE's vision transformers: facebookresearch/mae, with and without their decoder.

Their features are the class token, as their authors probe them; a network that was fine-tuned with
pooled patches has a norm after the pooling, which its entries show.

Source: He et al., arXiv 2111.06377.
"""

from collections.abc import Mapping

from mgd_ssl.models.families.family import Remapped, State, Terms, take
from mgd_ssl.models.families.positions import are_positions_of
from mgd_ssl.models.families.vit import PlainVit


class Mae(PlainVit):
    """ViT-B, L and H; others that its code trains."""

    name = "mae"
    terms = Terms("CC BY-NC 4.0", "no commercial use", publisher="Meta")

    def recognizes(self, state: Mapping[str, object]) -> bool:
        """By its decoder, or by its fixed positions: columns come before rows."""
        encoder = {k: v for k, v in state.items() if not k.startswith("decoder_")}
        if not super().recognizes(encoder):
            return False
        return "decoder_pos_embed" in state or are_positions_of(state["pos_embed"], "columns")

    def remap(self, state: State) -> Remapped:
        """The encoder alone."""
        state = dict(state)
        return Remapped(state, aside=take(state, r"mask_token|decoder_.+"))
