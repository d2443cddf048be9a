"""The optimizer of a run."""

from typing import cast

import torch
from torch import nn

from mgd_ssl.settings.run import RunConfig


def build_optimizer(config: RunConfig, task: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over all that is trained: the student, its head and the adapters."""
    optim = config.optim
    rate, decay = cast(float, optim.lr), cast(float, optim.weight_decay)
    parameters = [p for p in task.parameters() if p.requires_grad]
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(
        parameters, rate, optim.momentum, weight_decay=decay, nesterov=optim.nesterov
    )
