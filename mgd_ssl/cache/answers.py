"""A teacher's answers as they are stored: the pooled output in float16, maps in eight bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

OUTPUT = "output"  # name of the column
FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Answers:
    """What a teacher says of N views.

    Attributes:
        maps: (N,C_i,H_i,W_i) each.
        output: (N,D), pooled.
    """

    maps: Sequence[Tensor]
    output: Tensor

    def encode(self) -> dict[str, Tensor]:
        """The columns that are stored, one row a view.

        A map is kept as 8-bit floating-point numbers (four bits of exponent, three of mantissa)
        beside a factor for each view, so that a value errs by at most a sixteenth of itself or, if
        it is small, by the map's largest in the view divided by 458,752 (2⁻¹⁰ of 448).
        """
        columns = {OUTPUT: self.output.to(torch.float16)}
        for i, x in enumerate(self.maps):
            scale = x.float().abs().amax(dim=(1, 2, 3)) / LARGEST
            scale = scale.clamp(min=LEAST)
            scaled = (x.float() / scale[:, None, None, None]).clamp(-LARGEST, LARGEST)
            columns[f"map_{i}"] = scaled.contiguous().to(FLOAT8).view(torch.uint8)
            columns[f"scale_{i}"] = scale
        return columns

    @classmethod
    def decode(cls, columns: Mapping[str, Tensor]) -> "Answers":
        """Counterpart of `encode`; float32, on the columns' device."""
        maps = []
        for i in range(sum(name.startswith("map_") for name in columns)):
            scale = columns[f"scale_{i}"][:, None, None, None]
            maps.append(columns[f"map_{i}"].view(FLOAT8).float() * scale)
        return cls(maps, columns[OUTPUT].float())
