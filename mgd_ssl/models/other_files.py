"""What a file holds that is no image network: a text tower, adapters, a head, a detector."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mgd_ssl.models.layouts import state_dicts

ADAPTERS = re.compile(r"(^|[._])(lora_[AB]|lora_(up|down)|lora_embedding|hada_w|lokr_w|ia3_l)")
TEXT = re.compile(r"(^|\.)(token_embedding|word_embeddings|embed_tokens|text_projection)(\.|$)")
DETECTOR = re.compile(
    r"(^|\.)(roi_heads?|proposal_generator|rpn(_head)?|bbox_(head|embed)|class_embed|query_embed"
    r"|mask_head|box_(head|predictor))(\.|$)"
)
HEAD = re.compile(
    r"(.*\.)?((dino|ibot)_head|(projection_)?head|projector|predictor|prototypes|fc|classifier"
    r"|linear|last_layer|classifiers_dict)\..+|weight|bias"
)


def what_instead(content: Mapping[str, Any]) -> str:
    """What a file without an image network holds, and what helps; "" where that is not told."""
    keys = [key for _, state in state_dicts(content) for key in state]
    if any(map(ADAPTERS.search, keys)):
        return (
            "adapters (LoRA) and not the network that they change, expected whole weights; merge "
            "them into their network, with PEFT by merge_and_unload(), and save its state_dict()"
        )
    if is_detector(keys):
        return (
            "a detector, expected a classifier or a self-supervised network; give the weights that "
            "it was trained from"
        )
    if any(map(TEXT.search, keys)):
        return (
            "a text tower, expected one of images; give the file that holds the image tower, alone "
            "or beside it"
        )
    if keys and all(map(HEAD.fullmatch, keys)):
        return "a head alone, expected the network under it; give the backbone's file"
    return ""


def is_detector(keys: Iterable[str]) -> bool:
    """Whether a state dict has the parts of a detector beside its body."""
    return any(map(DETECTOR.search, keys))
