"""The optimizer of a run."""

import torch
from torch import nn

from mgd_ssl.models import head_of
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.muon import Muon, matrices_of


def build_optimizer(config: RunConfig, task: Task, decay: float) -> torch.optim.Optimizer:
    """SGD, AdamW or Muon over all that is trained: the student, its head and the adapters.

    All weights change in one pass over memory ("fused"), which benchmarks/optimizers.py measures.
    """
    optim = config.optim
    parameters = [p for p in task.parameters() if p.requires_grad]
    # A fused optimizer takes the scale off fp16 gradients itself, too late for their norm.
    fused = not (config.device.precision == "fp16" and optim.clip_grad is not None)
    if optim.optimizer == "muon":
        matrices = _matrices(task)
        apart = set(matrices)
        return Muon(matrices, [p for p in parameters if p not in apart], optim.lr, decay)
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(parameters, optim.lr, weight_decay=decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        optim.lr,
        optim.momentum,
        weight_decay=decay,
        nesterov=optim.nesterov,
        fused=fused,
    )


def _matrices(task: Task) -> list[nn.Parameter]:
    """Of the student and the adapters; heads are large, and thrown away or replaced."""
    head = head_of(task.student) if hasattr(task.student, "head_name") else None
    adapters = matrices_of(task.distiller) if task.distiller else []
    return [*matrices_of(task.student, head), *adapters]
