"""Eval mode for a while, and statistics that a look does not move."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and give each its own mode back afterwards."""
    modes = [(m, m.training) for network in networks for m in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def keeping_buffers(*networks: nn.Module) -> Iterator[None]:
    """Put every buffer back afterwards, so that a look in training mode moves no statistics."""
    buffers = [(b, b.detach().clone()) for network in networks for b in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextmanager
def undone_on_error(module: nn.Module) -> Iterator[None]:
    """Put a module's state back where what changes it is broken off."""
    before = deepcopy(module.state_dict())
    try:
        yield
    except BaseException:
        module.load_state_dict(before)
        raise
