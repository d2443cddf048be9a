"""Fixed positions of sines and cosines, by which networks of the same entries are told apart."""

import math
from typing import Literal

import torch
from torch import Tensor

PERIOD = 10_000.0
ROUNDING = 1e-2  # of values in [-1,1], in bfloat16


def sine_positions(side: int, width: int, first: Literal["rows", "columns"]) -> Tensor:
    """(1,1+side²,width) positions: none of the class token, and of each patch its two places.

    Each place is a quarter of sines and a quarter of cosines.

    Args:
        side: of the grid.
        width: of the tokens.
        first: which place comes first: ``rows`` in MoCo v3, ``columns`` in MAE.
    """
    places = torch.arange(side, dtype=torch.float32)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(places, places, indexing="ij"))
    rates = PERIOD ** -(torch.arange(width // 4) / (width // 4))
    pair = (rows, columns) if first == "rows" else (columns, rows)
    angles = [place[:, None] * rates for place in pair]
    patches = torch.cat([wave for a in angles for wave in (a.sin(), a.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), patches])[None]


def are_positions_of(positions: object, first: Literal["rows", "columns"]) -> bool:
    """Whether positions are fixed ones of a class token and a square grid."""
    if not isinstance(positions, Tensor) or positions.ndim != 3 or positions.is_meta:
        return False
    _, count, width = positions.shape
    side = math.isqrt(max(0, count - 1))
    if side < 2 or side * side != count - 1 or width % 4:
        return False
    difference = positions.float() - sine_positions(side, width, first)
    return bool(difference.abs().max() < ROUNDING)
