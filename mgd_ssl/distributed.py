"""The few collectives that the package needs; each does the plain thing on one process."""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Number of processes; 1 where no process group is initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 where no process group is initialised."""
    return dist.get_rank() if world_size() > 1 else 0


def all_gather(x: Tensor) -> Tensor:
    """Concatenate the equally shaped ``x`` of every rank along dimension 0, without gradient."""
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum ``x`` over the ranks, in place, and return it."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def gather_list(items: list[T]) -> list[T]:
    """The items of every rank, in the order of the ranks, on every rank."""
    if world_size() == 1:
        return items
    parts: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def broadcast(x: Tensor) -> Tensor:
    """Give every rank the ``x`` of rank 0, in place, and return it."""
    if world_size() > 1:
        dist.broadcast(x, src=0)
    return x
