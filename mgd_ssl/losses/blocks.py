"""Blocks that losses share: unit vectors, queues and heads."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl import distributed


def unit(x: Tensor) -> Tensor:
    """Rows of unit length, in float32 also under autocast."""
    return F.normalize(x.float(), dim=1)


def register_queue(module: nn.Module, dim: int, size: int, name: str = "queue") -> None:
    """Give a module a queue (dim,size) of random unit columns, and its pointer, as buffers."""
    module.register_buffer(name, F.normalize(torch.randn(dim, size), dim=0))
    module.register_buffer(f"{name}_ptr", torch.zeros(1, dtype=torch.long))


@torch.no_grad()
def enqueue(module: nn.Module, keys: Float[Tensor, "n dim"], name: str = "queue") -> None:
    """Overwrite the oldest columns of a queue with every rank's keys.

    Raises:
        ValueError: the queue is not divisible by the global batch.
    """
    keys = distributed.all_gather(keys)
    queue, pointer = module.get_buffer(name), module.get_buffer(f"{name}_ptr")
    size = queue.shape[1]
    if size % len(keys):
        raise ValueError(
            f"queue: {size} keys are not divisible by the global batch of {len(keys)} images"
        )
    places = pointer + torch.arange(len(keys), device=keys.device)
    queue.index_copy_(1, places, keys.T.to(queue.dtype))
    pointer.copy_((pointer + len(keys)) % size)


def mlp(*widths: int, norm_after: tuple[int, ...] = (), last_norm: bool = False) -> nn.Sequential:
    """Linear layers, some of them with batch norm and ReLU behind them.

    Args:
        widths: inputs, hidden widths, outputs.
        norm_after: which of the layers, from 1, have batch norm and ReLU behind them; the others
            are followed by the next layer at once.
        last_norm: batch norm after the last layer.
    """
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths), 1):
        layers.append(nn.Linear(inputs, outputs))
        if i in norm_after:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU()]
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1]))
    return nn.Sequential(*layers)


def projection_head(features: int, dim: int, hidden: int | None) -> nn.Module:
    """(N,features) -> (N,dim): Linear, ReLU, Linear (MoCo v2), or one Linear (v1).

    Args:
        features: inputs.
        dim: outputs.
        hidden: width of the hidden layer; None for none.
    """
    if hidden is None:
        return nn.Linear(features, dim)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, dim))
