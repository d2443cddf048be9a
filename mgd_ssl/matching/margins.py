"""Margins: how negative a teacher channel's pre-activation is where it is negative."""

from typing import TypeGuard, cast

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TAIL = 1e-3  # below this probability of being negative the margin is −3σ
FROZEN_BUFFERS = {"weight", "bias", "running_mean", "running_var"}


def is_batch_norm(module: nn.Module | None, channels: int | None = None) -> TypeGuard[nn.Module]:
    """Whether a module is a batch norm (of ``channels``), trained or frozen.

    Frozen ones, torchvision's and Detectron2's FrozenBatchNorm2d, derive from no common class:
    they are known by keeping γ and β as buffers beside the statistics.
    """
    if module is None:
        return False
    buffers = dict(module.named_buffers(recurse=False))
    if not (isinstance(module, _BatchNorm) or buffers.keys() >= FROZEN_BUFFERS):
        return False
    return channels is None or _width(module) == channels


def _width(norm: nn.Module) -> int:
    return norm.num_features if isinstance(norm, _BatchNorm) else len(norm.get_buffer("weight"))


@torch.no_grad()
def batchnorm_margin(norm: nn.Module) -> Float32[Tensor, "c"]:
    """Margin of each channel from the last batch norm before the tap.

    With μ = β and σ = |γ|, a channel is taken as Gaussian and its margin is the mean of its
    negative part: μ − σ·φ(μ/σ)/Φ(−μ/σ), or −3σ where Φ(−μ/σ) ≤ 0.001; the limit at σ = 0 is
    min(μ, 0). Compute it after the teacher's weights are loaded.

    Args:
        norm: What `is_batch_norm` knows: a BatchNorm2d or a subclass (timm's BatchNormAct2d),
            or a FrozenBatchNorm2d; without affine parameters γ = 1 and β = 0.

    Returns:
        (C,) float32, never positive.

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019.
    """
    gamma, beta = cast("Tensor | None", norm.weight), cast("Tensor | None", norm.bias)
    ones = torch.ones(_width(norm), dtype=torch.float64)
    sigma = ones if gamma is None else gamma.detach().cpu().double().abs()
    mean = ones * 0 if beta is None else beta.detach().cpu().double()
    ratio = mean / sigma.where(sigma > 0, 1)
    negative = torch.special.ndtr(-ratio)
    density = torch.exp(-(ratio**2) / 2) / (2 * torch.pi) ** 0.5
    margin = torch.where(negative > TAIL, mean - sigma * density / negative, -3 * sigma)
    found = margin.where(sigma > 0, mean.clamp_max(0)).float()
    return found if gamma is None else found.to(gamma.device)
