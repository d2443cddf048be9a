"""A network as a graph of operations, by torch.export."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mgd_ssl.exporting.original import Original
from mgd_ssl.models import pool

EXAMPLES = 2  # images of the batch that is traced; of one, the batch size would become a constant


class _Pooled(nn.Module):
    """A network whose output is pooled, as the evaluators pool it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(N,3,S,S) -> (N,D)."""
        return pool(self.network(images))


def trace(original: Original) -> ExportedProgram:
    """Trace a network for batches of any number of images of one size.

    Raises:
        ValueError: torch.export does not trace it.
    """
    size = original.contract.size
    example = torch.zeros(EXAMPLES, 3, size, size)
    shapes = ({0: Dim("batch")},)
    network = _Pooled(original.network).eval()
    try:
        with torch.no_grad():
            return torch.export.export(network, (example,), dynamic_shapes=shapes)
    except Exception as error:  # torch.export has many kinds of its own
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"to: torch.export does not trace {original.spec.arch}: {first}; expected a network "
            "whose operations do not depend on the values of images. Export it --to safetensors"
        ) from error
