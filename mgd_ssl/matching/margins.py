"""Margins: how negative a teacher channel's pre-activation is where it is negative."""

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

TAIL = 1e-3  # below this probability of being negative the margin is −3σ


@torch.no_grad()
def batchnorm_margin(norm: _BatchNorm) -> Float32[Tensor, "c"]:
    """Margin of each channel from the last batch norm before the tap.

    With μ = β and σ = |γ|, a channel is taken as Gaussian and its margin is the mean of its
    negative part: μ − σ·φ(μ/σ)/Φ(−μ/σ), or −3σ where Φ(−μ/σ) ≤ 0.001; the limit at σ = 0 is
    min(μ, 0). Compute it after the teacher's weights are loaded.

    Args:
        norm: A BatchNorm2d or a subclass (timm's BatchNormAct2d); without affine parameters
            γ = 1 and β = 0.

    Returns:
        (C,) float32, never positive.

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019.
    """
    ones = torch.ones(norm.num_features, dtype=torch.float64)
    sigma = ones if norm.weight is None else norm.weight.detach().double().abs()
    mean = ones * 0 if norm.bias is None else norm.bias.detach().double()
    ratio = mean / sigma.where(sigma > 0, 1)
    negative = torch.special.ndtr(-ratio)
    density = torch.exp(-(ratio**2) / 2) / (2 * torch.pi) ** 0.5
    margin = torch.where(negative > TAIL, mean - sigma * density / negative, -3 * sigma)
    return margin.where(sigma > 0, mean.clamp_max(0)).float()
