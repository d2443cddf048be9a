"""What a step needs and what the machine has, compared before the first step."""

import sys
from pathlib import Path

import torch

from mgd_ssl import distributed, process
from mgd_ssl.fabric import Fabric
from mgd_ssl.process import group_folders, read_or_empty
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.logging import logger
from mgd_ssl.training.memory import StepMemory, step_memory
from mgd_ssl.training.training_data import TrainingData

SMALL = 96  # pixels of a side, below which smaller images are not advised
# Of a control group: its limit, its usage, and what of that it can give back; versions 2 and 1.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# The estimate errs by a quarter: more than these shares of what is free are refused, warned of.
REFUSED, WARNED = 1.15, 0.85


def check_memory(
    config: RunConfig,
    fabric: Fabric,
    task: Task,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
) -> None:
    """Refuse a step that does not fit into memory, on every rank where it does not on one.

    Images of different sizes are not judged.

    Raises:
        ValueError: names a batch that fits.
    """
    if data.size is None:
        return
    need = step_memory(task, optimizer, fabric, data.size, data.views_per_image)
    processes = int(fabric.world_size)
    free = share_of(fabric.device)
    where = "on this machine" if fabric.device.type == "cpu" else f"on {fabric.device}"
    batch, size = config.optim.batch_size, config.loader.size or 0
    parts = config.optim.accumulate
    warning = distributed.together(
        lambda: check_fits(need, batch, processes, free, where, size < SMALL, parts)
    )
    if warning:
        logger.warning("%s", warning)


def share_of(device: torch.device) -> int | None:
    """Bytes for each process of this machine that computes there; None if that is not known."""
    free = available(device)
    if free is not None and device.type == "cpu":
        return free // process.local_processes()
    return free


def available(device: torch.device, root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take; None where the system does not say.

    On CUDA of the GPU, else of the machine, or of its control groups where they allow less.

    Args:
        device: of the networks.
        root: where ``proc`` and ``sys`` are.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu" or sys.platform != "linux":
        return None
    groups = group_folders("memory", root / "sys/fs/cgroup", root / "proc/self/cgroup")
    found = [_entry(root / "proc/meminfo", "MemAvailable:", 1024), *map(_left, groups)]
    return min((free for free in found if free is not None), default=None)


def _left(group: Path) -> int | None:
    """What a control group's limit leaves; None where it has none."""
    for limit, usage, reclaimable in GROUP_FILES:
        words = [read_or_empty(group / name).strip() for name in (limit, usage)]
        if all(word.isdigit() for word in words):
            cached = _entry(group / "memory.stat", reclaimable) or 0
            return int(words[0]) - int(words[1]) + cached
    return None  # "max", or no such files


def _entry(path: Path, name: str, unit: int = 1) -> int | None:
    """The number beside a name, in bytes; None where it is not there."""
    for line in read_or_empty(path).splitlines():
        if line.split()[:1] == [name]:
            return int(line.split()[1]) * unit
    return None


def check_fits(
    need: StepMemory,
    batch: int,
    processes: int,
    free: int | None,
    where: str,
    small: bool,
    parts: int = 1,
) -> str:
    """Compare what a step needs with what there is.

    Args:
        need: of one process.
        batch: images of a step, all processes together.
        processes: that share the step.
        free: bytes for one process; None where it is not known.
        where: that memory, in words.
        small: whether the images are small for the network already.
        parts: of a step, computed one after the other.

    Returns:
        A warning; empty where a step fits well.

    Raises:
        ValueError: a step does not fit; names a batch that does.
    """
    wanted = need.bytes_for(batch // (processes * parts))
    if free is None or wanted <= WARNED * free:
        return ""
    each = f" in each of {processes} processes" if processes > 1 else ""
    text = (
        f"batch_size: a step of {batch} images needs about {gib(wanted)} of memory{each}, got "
        f"{gib(free)} that {'are its share' if each else 'are free'} {where}"
    )
    remedy = _remedy(need, batch, processes * parts, free, small)
    if wanted <= REFUSED * free:
        return f"{text}; if it is killed, {remedy}"
    raise ValueError(f"{text}, expected more; {remedy}")


def _remedy(need: StepMemory, batch: int, parts: int, free: int, small: bool) -> str:
    """The batch by halving, so that what the given one divides it divides too.

    Args:
        need: of one process.
        batch: images of a step.
        parts: that the step is shared out to, at once or one after the other.
        free: bytes for one process.
        small: whether the images are small for the network already.
    """
    other = "" if small else ", or for small pictures --size 32"
    while batch % (2 * parts) == 0:
        batch //= 2
        if need.bytes_for(batch // parts) <= WARNED * free:
            return f"give -b {batch} ({gib(need.bytes_for(batch // parts))}){other}"
    return f"take a smaller network (-a, --width) or smaller images (--size){other}"


def gib(size: float | None) -> str:
    """Bytes in words: 1.2 GiB."""
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
