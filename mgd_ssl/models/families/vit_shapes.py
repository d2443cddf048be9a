"""Options of timm's plain vision transformer, read off the shapes of its entries."""

import math

from mgd_ssl.models.families.family import Shapes, count_blocks, shape_of
from mgd_ssl.models.specs import Option

PATCHES = "patch_embed.proj.weight"
IN, OUT = "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"


def measure_vit(shapes: Shapes) -> dict[str, Option]:
    """Options of timm's VisionTransformer by its entries.

    Raises:
        ValueError: an entry is missing or malformed, or the positions are no square grid.
    """
    width, _, patch, other = shape_of(shapes, PATCHES, 4)
    if patch != other:
        raise ValueError(f"{PATCHES}: got patches of {patch}×{other} pixels, expected square ones")
    registers = shapes["reg_token"][1] if "reg_token" in shapes else 0
    found: dict[str, Option] = {
        "embed_dim": width,
        "depth": count_blocks(shapes),
        "patch_size": patch,
        "mlp_ratio": ratio(shape_of(shapes, IN, 2)[0], width),
        "reg_tokens": registers,
        "class_token": "cls_token" in shapes,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
    }
    positions = shape_of(shapes, "pos_embed", 3)[1]
    prefix = registers + ("cls_token" in shapes)
    side, embedded = grid(positions, prefix)
    found["img_size"] = side * patch
    found["no_embed_class"] = bool(prefix) and not embedded
    if "blocks.0.ls1.gamma" in shapes:
        found["init_values"] = 1e-5
    if "norm_pre.weight" in shapes:
        found["pre_norm"] = True
    return found | _pooling(shapes)


def _pooling(shapes: Shapes) -> dict[str, Option]:
    """The class token, where nothing else is shown: patches pooled and normed after, say."""
    if "attn_pool.latent" in shapes:
        return {"global_pool": "map"}
    if "fc_norm.weight" in shapes:
        return {"global_pool": "avg", "fc_norm": True}
    if "cls_token" in shapes:
        return {"global_pool": "token", "fc_norm": False}
    return {"global_pool": "avg", "fc_norm": False}


def ratio(hidden: int, width: int) -> float:
    """The factor from which timm computes ``int(width * factor) == hidden``."""
    exact = hidden / width
    return exact if int(width * exact) == hidden else (hidden + 0.25) / width


def grid(positions: int, prefix: int) -> tuple[int, bool]:
    """Side of a square grid, and whether its positions include those of the prefix tokens.

    Raises:
        ValueError: the positions are of no square grid.
    """
    for extra in dict.fromkeys((prefix, 0)):
        side = math.isqrt(max(0, positions - extra))
        if side and side * side == positions - extra:
            return side, bool(extra)
    raise ValueError(
        f"pos_embed: got {positions} positions and {prefix} prefix tokens, expected those of a "
        "square grid of patches"
    )


def is_gated(shapes: Shapes) -> bool:
    """Whether the blocks' MLP is a SwiGLU, two projections in one matrix."""
    return shape_of(shapes, IN, 2)[0] == 2 * shape_of(shapes, OUT, 2)[1]
