"""The few collectives that the package needs; each does the plain thing on one process."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mgd_ssl import process

T = TypeVar("T")


class ShareFailedError(RuntimeError):
    """A rank could not do its share of some work; every rank raises it."""


def world_size() -> int:
    """Number of processes; 1 where no process group is initialized."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 where no process group is initialized."""
    return dist.get_rank() if world_size() > 1 else 0


def launched_rank() -> int:
    """This process's rank as whoever started it says, before there is a process group too."""
    return rank() if world_size() > 1 else process.told_rank()


def leave() -> None:
    """End this process's part in the group, once every process has come so far.

    A group that was left to the end of the process aborted it once.
    """
    if world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()


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


def collective_device() -> torch.device:
    """Where a tensor must be to be sent: the GPU under NCCL, else the CPU."""
    return torch.device("cuda" if world_size() > 1 and dist.get_backend() == "nccl" else "cpu")


def all_gather_rows(x: Tensor) -> Tensor:
    """Concatenate matrices (n,D), or vectors (n,), whose n may differ, in the order of the ranks.

    A rank without rows may give any D. The result is on the device of ``x``.
    """
    if world_size() == 1:
        return x
    shapes = all_gather(torch.tensor([[len(x), x[:1].numel()]], device=collective_device()))
    most, width = shapes.amax(dim=0).clamp_min(1).tolist()
    sent = torch.zeros(most, width, dtype=x.dtype, device=collective_device())
    if len(x):
        sent[: len(x)] = x.reshape(len(x), -1)
    parts = torch.split(all_gather(sent), most)
    rows = [part[:count] for part, count in zip(parts, shapes[:, 0].tolist(), strict=True)]
    found = torch.cat(rows).to(x.device)
    return found if x.ndim > 1 else found.flatten()


def together(work: Callable[[], T]) -> T:
    """Do this rank's share of some work, and fail on every rank where it fails on one.

    Without it the others would wait for ever in their next collective. ``work`` itself holds none.

    Raises:
        ValueError: of the first rank that raised it; so for OSError.
        ShareFailedError: another error of a library, such as memory that ran out.
    """
    if world_size() == 1:
        return work()
    done: list[T] = []
    refusals: list[ValueError | OSError | ShareFailedError] = []
    try:
        done.append(work())
    except (ValueError, OSError) as error:
        refusals.append(error)
    except RuntimeError as error:  # of many kinds, which not all can be sent
        refusals.append(ShareFailedError(f"rank {rank()}: {type(error).__name__}: {error}"))
    for refusal in gather_list(refusals):
        raise refusal
    return done[0]


def from_first(work: Callable[[], T]) -> T:
    """What work on rank 0 returns, on every rank; where it fails, all fail, as `together` says."""
    return gather_list(together(lambda: [work()] if rank() == 0 else []))[0]


def gather_on_first(items: list[T]) -> list[T]:
    """The items of every rank, in the order of the ranks, on rank 0; none on the others."""
    if world_size() == 1:
        return items
    parts: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(items, parts, dst=0)
    return [item for part in parts or [] for item in part]


def gather_list(items: list[T]) -> list[T]:
    """The items of every rank, in the order of the ranks, on every rank."""
    if world_size() == 1:
        return items
    parts: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def share_buffers(network: nn.Module) -> None:
    """Give every rank the buffers of rank 0: each has taken its batch norms' statistics alone."""
    for buffer in network.buffers():
        broadcast(buffer)


def broadcast(x: Tensor) -> Tensor:
    """Give every rank the ``x`` of rank 0, in place, and return it."""
    if world_size() > 1:
        dist.broadcast(x, src=0)
    return x
