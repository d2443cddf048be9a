"""DINOv2's position embedding at other sizes than its own, as its authors compute it.

Their networks with registers resize it as timm does. Those without take every patch's position
from a grid that is a tenth of a patch larger, without smoothing; at 224 pixels the published ones,
of 518, are always resized.

Source: `interpolate_pos_encoding` of facebookresearch/dinov2, whose published networks without
registers have an offset of 0.1 and no antialiasing.
"""

import re

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate

OFFSET = 0.1
WITHOUT_REGISTERS = re.compile(r"vit_\w+_patch\d+_dinov2(\..+)?")


class DinoV2Transformer(VisionTransformer):  # type: ignore[misc]
    """timm's vision transformer of a class token and no registers, but for the resizing."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        """(N,H,W,D) patches -> (N,1+H·W,D) tokens with their positions."""
        rows, columns = x.shape[1:3]
        positions = self.pos_embed
        if (rows, columns) != tuple(self.patch_embed.grid_size):
            positions = resized(positions, self.patch_embed.grid_size, (rows, columns))
        # not len(x): an exported program would keep it as a constant
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x.flatten(1, 2)], dim=1)
        out: Tensor = self.pos_drop(tokens + positions)
        return out


def resized(positions: Tensor, own: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(1,1+h·w,D) positions of a grid of one size -> those of another; the class token's stay."""
    rows, columns = own
    factors = tuple((new + OFFSET) / old for new, old in zip(grid, own, strict=True))
    maps = positions[:, 1:].float().reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    maps = interpolate(maps, scale_factor=factors, mode="bicubic")
    patches = maps.flatten(2).transpose(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :1], patches], dim=1)


def adopt(network: nn.Module, name: str) -> nn.Module:
    """Let a timm network of DINOv2 without registers resize its positions as its authors do."""
    known = isinstance(network, VisionTransformer) and WITHOUT_REGISTERS.fullmatch(name)
    if known and network.reg_token is None and not network.no_embed_class:
        network.__class__ = DinoV2Transformer
    return network


def own_side(network: nn.Module) -> int | None:
    """The side at which timm computes what the network does; None where it does at any."""
    return int(network.patch_embed.img_size[0]) if isinstance(network, DinoV2Transformer) else None
