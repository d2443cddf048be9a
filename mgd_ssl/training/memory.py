"""Memory that a training step needs, measured on blank images."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mgd_ssl.data.batches import tensors
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import evaluating
from mgd_ssl.tasks.task import Task

# Activations beside those that are saved for the backward pass: what a layer reads and writes.
IN_PASSING = 3
# What allocators leave unused between tensors, as a share of these, and what libraries take for
# themselves at the first step; measured by benchmarks/step_memory.py.
SLACK, LIBRARIES = 1.1, 64 * 2**20


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step takes on one process, beside what is loaded already.

    Attributes:
        fixed: gradients, the optimizer's state and the like.
        per_image: activations, inputs and the like.
    """

    fixed: int
    per_image: int

    def bytes_for(self, images: int) -> int:
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
        outputs.append(max((t.nbytes for t in tensors(output)), default=0))

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(saved_tensors_hooks(keep, lambda tensor: tensor))
        for module in network.modules():
            if not [*module.children()]:
                stack.callback(module.register_forward_hook(note).remove)
        result = forward(torch.zeros(n, 3, size, size, device=device))
        kept = sum(t.nbytes for t in {t.data_ptr(): t for t in tensors(result)}.values())
    return sum(saved.values()), max(outputs, default=0), kept


def matched_bytes(student: Activations, frozen: Sequence[Activations]) -> int:
    """What one image's matching holds: the teacher's maps, the adapted ones and their residual."""
    teacher = max((network.result for network in frozen), default=0)
    return teacher + 2 * max(student.result, teacher)


def optimizer_bytes(optimizer: torch.optim.Optimizer, processes: int) -> int:
    """Gradients, the state that the optimizer is yet to make, its temporaries, DDP's buckets."""
    total = 0
    for group in optimizer.param_groups:
        copies = 2 + states_of(group) + (processes > 1)
        total += copies * sum(p.nbytes for p in group["params"])
    return total


def states_of(group: Mapping[str, Any]) -> int:
    """How many values an optimizer keeps for each of a group's: a momentum, or AdamW's two."""
    return int(group["momentum"] > 0) if "momentum" in group else 2


def step_memory(
    task: Task, optimizer: torch.optim.Optimizer, fabric: Fabric, size: int, views: int
) -> StepMemory:
    """Of the networks as they are, measured on blank images.

    Args:
        task: on its device.
        optimizer: of its parameters.
        fabric: devices and precision.
        size: side of the views in pixels; the student sees them as the task normalizes them.
        views: of each image.
    """
    device = fabric.device
    with fabric.autocast():
        student = activations(
            task.student, lambda x: task.reader(task.student, task.normalize(x)), size, device
        )
        with torch.no_grad():
            frozen = [activations(network, read, size, device) for network, read in task.frozen()]
    pixels = 3 * size * size * torch.float32.itemsize
    fixed = optimizer_bytes(optimizer, int(fabric.world_size))
    return StepMemory(
        fixed=fixed + sum(queue.nbytes for queue in task.queues()),
        per_image=task.encodings * student.saved
        + IN_PASSING * max(a.largest for a in (student, *frozen))
        + (task.distiller is not None) * matched_bytes(student, frozen)
        + (2 + 2 * views) * pixels
        + sum(IN_PASSING * queue[0].nbytes for queue in task.queues()),
    )
