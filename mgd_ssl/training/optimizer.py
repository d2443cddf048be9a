"""The optimizer of a run."""

import torch
from torch import nn

from mgd_ssl.settings.run import RunConfig


def build_optimizer(config: RunConfig, task: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over all that is trained: the student, its head and the adapters."""
    optim = config.optim
    parameters = [p for p in task.parameters() if p.requires_grad]
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(parameters, optim.lr, weight_decay=optim.weight_decay)
    return torch.optim.SGD(
        parameters,
        optim.lr,
        optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
    )
