"""What an objective gets at each step, and what objectives share: queues and heads."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl import distributed


@dataclass(frozen=True)
class Views:
    """One step's images as student and teacher see them.

    Attributes:
        output: (N,D) the student's output for the query view.
        key: (N,3,H,W) the key view, normalised for the student; None where the objective says
            that it needs none.
        teacher: (N,D_t) the teacher's pooled features of the query view; None without a teacher.
        encode: (N,3,H,W) normalised for the student -> (N,D).
        teach_key: the teacher's features (N,D_t) of the key view, computed when asked for.
    """

    output: Tensor
    key: Tensor | None
    teacher: Tensor | None
    encode: Callable[[Tensor], Tensor]
    teach_key: Callable[[], Tensor]


class Objective(nn.Module, ABC):
    """Views in, named losses out; what it trains beside the student is its own and discarded.

    Attributes:
        needs_key: whether a second view is drawn.
        encodings: times that the student sees an image in a step, with its gradient.
    """

    needs_key: ClassVar[bool] = True
    encodings: ClassVar[int] = 1

    @abstractmethod
    def forward(self, views: Views) -> dict[str, Tensor]:
        """Named float32 scalars, each a mean over this rank's images."""


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
    """Linear layers with a ReLU between them.

    Args:
        widths: inputs, hidden widths, outputs.
        norm_after: which of the hidden layers, from 1, have batch norm before their ReLU; the
            others are followed by the next layer at once.
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
