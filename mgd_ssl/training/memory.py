"""Memory that a training step needs, and what the machine has: compared before the first step."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mgd_ssl.models import evaluating
from mgd_ssl.process import group_folders, read_or_empty

# Activations beside those that are saved for the backward pass: what a layer reads and writes.
IN_PASSING = 3
# What allocators leave unused between tensors, as a share of these, and what libraries take for
# themselves at the first step; measured by benchmarks/step_memory.py.
SLACK, LIBRARIES = 1.1, 64 * 2**20
# Of a control group: its limit, its usage, and what of that it can give back; versions 2 and 1.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# The estimate errs by a quarter: more than these shares of what is free are refused, warned of.
REFUSED, WARNED = 1.15, 0.85


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step takes on one process, beside what is loaded already.

    Attributes:
        fixed: gradients, the optimizer's state and the like.
        per_image: activations, inputs and the like.
    """

    fixed: int
    per_image: int

    def of(self, images: int) -> int:
        """For a batch of so many images on this process."""
        return LIBRARIES + round(SLACK * (self.fixed + images * self.per_image))


@dataclass(frozen=True)
class Activations:
    """Bytes that one image takes in a network.

    Attributes:
        saved: for the backward pass.
        largest: the largest output of a layer.
        result: the maps and the output that are kept.
    """

    saved: int
    largest: int
    result: int


def activations(
    network: nn.Module, forward: Callable[[Tensor], Any], size: int, device: torch.device
) -> Activations:
    """Measure a network on one blank image and on two, which is as good as a whole batch.

    What autocast keeps of the weights is in both, so that it cancels out. Without gradient one
    image is enough. In eval mode: batch norms keep their statistics, and no random number is drawn.

    Args:
        network: on the device.
        forward: (N,3,S,S) images -> tensors, through the network.
        size: S.
        device: of the network.
    """
    one = _measure(network, forward, 1, size, device)
    if not torch.is_grad_enabled():
        return Activations(*one)
    two = _measure(network, forward, 2, size, device)
    return Activations(*(b - a for a, b in zip(one, two, strict=True)))


def _measure(
    network: nn.Module, forward: Callable[[Tensor], Any], n: int, size: int, device: torch.device
) -> tuple[int, int, int]:
    saved: dict[int, int] = {}
    outputs: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def note(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(max((_bytes(t) for t in tensors(output)), default=0))

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(saved_tensors_hooks(keep, lambda tensor: tensor))
        for module in network.modules():
            if not [*module.children()]:
                stack.callback(module.register_forward_hook(note).remove)
        result = forward(torch.zeros(n, 3, size, size, device=device))
        kept = sum(_bytes(t) for t in {t.data_ptr(): t for t in tensors(result)}.values())
    return sum(saved.values()), max(outputs, default=0), kept


def matched_bytes(student: Activations, frozen: Sequence[Activations]) -> int:
    """What one image's matching holds: the teacher's maps, the adapted ones and their residual."""
    teacher = max((network.result for network in frozen), default=0)
    return teacher + 2 * max(student.result, teacher)


def tensors(value: Any) -> Iterable[Tensor]:
    """All tensors in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [t for v in parts for t in tensors(v)] if isinstance(value, list | tuple | dict) else []


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def optimizer_bytes(optimizer: torch.optim.Optimizer, processes: int) -> int:
    """Gradients, the state that the optimizer is yet to make, its temporaries, DDP's buckets."""
    total = 0
    for group in optimizer.param_groups:
        states = 2 if "betas" in group else int(bool(group.get("momentum")))
        copies = 2 + states + (processes > 1)
        total += copies * sum(_bytes(p) for p in group["params"])
    return total


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
    need: StepMemory, batch: int, processes: int, free: int | None, where: str, small: bool
) -> str:
    """Compare what a step needs with what there is.

    Args:
        need: of one process.
        batch: images of a step, all processes together.
        processes: that share the step.
        free: bytes for one process; None where it is not known.
        where: that memory, in words.
        small: whether the images are small for the network already.

    Returns:
        A warning; empty where a step fits well.

    Raises:
        ValueError: a step does not fit; names a batch that does.
    """
    wanted = need.of(batch // processes)
    if free is None or wanted <= WARNED * free:
        return ""
    each = f" in each of {processes} processes" if processes > 1 else ""
    text = (
        f"batch_size: a step of {batch} images needs about {_gib(wanted)} of memory{each}, got "
        f"{_gib(free)} that {'are its share' if each else 'are free'} {where}"
    )
    if wanted <= REFUSED * free:
        return f"{text}; if it is killed, {_remedy(need, batch, processes, free, small)}"
    raise ValueError(f"{text}, expected more; {_remedy(need, batch, processes, free, small)}")


def _remedy(need: StepMemory, batch: int, processes: int, free: int, small: bool) -> str:
    """The batch by halving, so that what the given one divides it divides too."""
    other = "" if small else ", or for small pictures --size 32 --stem small"
    while batch % (2 * processes) == 0:
        batch //= 2
        if need.of(batch // processes) <= WARNED * free:
            return f"give -b {batch} ({_gib(need.of(batch // processes))}){other}"
    return f"take a smaller network (-a, --width) or smaller images (--size){other}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
