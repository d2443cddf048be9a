"""What datasets and loaders give."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One image (..., 3, S, S) uint8, its label (-1 unknown), its index, and which failed (-1)."""

    image: Tensor
    label: int
    index: int
    failed: int


class Batch(NamedTuple):
    """Images uint8; labels, indices, failed indices (B,) int64, -1 for none.

    Images are (B, 3, S, S) in evaluation, (B, V, 3, S, S) where V random crops of each are cut.
    Where something is stored of each crop, ``stored`` holds it: name -> (B, V, ...).
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    failed: Tensor
    stored: dict[str, Tensor] | None = None


def tensors(value: Any) -> list[Tensor]:
    """All tensors in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [t for v in parts for t in tensors(v)] if isinstance(value, list | tuple | dict) else []
