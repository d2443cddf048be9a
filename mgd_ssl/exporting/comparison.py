"""Two networks on the same images: how far their outputs differ."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mgd_ssl.exporting.target import Runnable

RELATIVE = 1e-4  # of the largest value of an output: float32 sums in another order differ by 1e-6
COSINE = 1e-4


@dataclass(frozen=True)
class Difference:
    """Of one output.

    Attributes:
        output: its name.
        shape: of the output on all images.
        max_abs_difference: largest difference of two values.
        max_abs_value: largest value of the original.
        min_cosine: smallest cosine of two images' outputs.
    """

    output: str
    shape: tuple[int, ...]
    max_abs_difference: float
    max_abs_value: float
    min_cosine: float

    @property
    def agrees(self) -> bool:
        """Whether both are the same but for the rounding of float32."""
        near = self.max_abs_difference <= RELATIVE * self.max_abs_value
        return near and self.min_cosine >= 1 - COSINE

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"shape": list(self.shape)}

    def row(self) -> dict[str, Any]:
        """For a table."""
        return {
            "output": self.output,
            "shape": "×".join(map(str, self.shape)),
            "max |difference|": f"{self.max_abs_difference:.2g}",
            "max |value|": f"{self.max_abs_value:.3g}",
            "1 - min cosine": f"{1 - self.min_cosine:.1g}",
        }


def compare(original: Runnable, exported: Runnable, images: Tensor) -> list[Difference]:
    """Run both on a batch of one image, and on the others.

    Args:
        original: of this project.
        exported: as its library loads it.
        images: (N,3,S,S) normalized; two or more.

    Raises:
        ValueError: the original's outputs are all zero or not finite, or the other's are not the
            same ones, or of another shape.
    """
    batches = [images[:1], images[1:]]
    wanted, got = ([run(batch) for batch in batches] for run in (original, exported))
    odd = [n for n in wanted[0] if not _says_something([batch[n] for batch in wanted])]
    if odd:
        raise ValueError(
            f"export: the checkpoint's own {', '.join(odd)} are all zero, or not finite, on these "
            "images, so that nothing can be compared; expected figures. Look for a diverged network"
        )
    if got[0].keys() != wanted[0].keys():
        raise ValueError(f"export: got the outputs {list(got[0])}, expected {list(wanted[0])}")
    return [_difference(n, [x[n] for x in wanted], [x[n] for x in got]) for n in wanted[0]]


def _says_something(parts: Sequence[Tensor]) -> bool:
    return all(bool(x.isfinite().all()) for x in parts) and any(bool(x.any()) for x in parts)


def _difference(name: str, wanted: Sequence[Tensor], got: Sequence[Tensor]) -> Difference:
    shapes = [[tuple(x.shape) for x in parts] for parts in (wanted, got)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"export: {name} has the shapes {shapes[1]}, expected {shapes[0]}")
    a, b = (torch.cat(list(parts)).double().flatten(1) for parts in (wanted, got))
    largest = float((a - b).abs().max())
    return Difference(
        name,
        tuple(torch.cat(list(wanted)).shape),
        largest if math.isfinite(largest) else math.inf,
        float(a.abs().max()),
        float(_cosine(a, b).min()),
    )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Per row; 1 where both are zero."""
    both = (a.norm(dim=1) == 0) & (b.norm(dim=1) == 0)
    return torch.cosine_similarity(a, b).clamp(-1, 1).masked_fill(both, 1).nan_to_num(-1.0)
