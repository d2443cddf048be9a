"""The loss of a stage, and knowledge distillation of the logits.

Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from mgd_ssl.matching.reducers import REDUCERS, gather_groups, gather_margin, group_mask


def partial_l2(
    student: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    margin: Float[Tensor, "c"] | Float[Tensor, "n c h w"],
) -> Float32[Tensor, ""]:
    """Squared distance to the target, unless both are at rest below the activation.

    With τ = max(target, margin), detached: Σ (s − τ)² · 1[s > τ or τ > 0], in float32 also under
    autocast. The gradient reaches the student alone.

    Args:
        student: (N, C, H, W) pre-activation maps after the adapter.
        target: (N, C, H, W) reduced teacher maps.
        margin: (C,), or (N, C, H, W) where the reducer draws one for each pixel.

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019.
    """
    with torch.autocast(student.device.type, enabled=False):
        margin = margin.detach().float()
        if margin.ndim == 1:
            margin = margin[:, None, None]
        tau = torch.maximum(target.detach().float(), margin)
        distance = student.float() - tau
        return distance.where(tau > 0, distance.clamp_min(0)).square().sum()


def matching_loss(
    student: Float[Tensor, "n c_s h w"],
    teacher: Float[Tensor, "n c_t h w"],
    assignment: Int64[Tensor, "c_s g"],
    margin: Float[Tensor, "c_t"],
    reducer: str = "amp",
) -> Float32[Tensor, ""]:
    """Reduce the teacher's maps by group and take the partial L2 distance of the student to them.

    Args:
        student: (N, C_s, H, W) pre-activation maps after the adapter.
        teacher: (N, C_t, H, W) pre-activation maps.
        assignment: (C_s, G) teacher channels of each student channel, -1 pads.
        margin: (C_t,) teacher margins.
        reducer: A name in ``REDUCERS``.

    Returns:
        Sum over all elements, float32.
    """
    with torch.no_grad():
        target, target_margin = REDUCERS[reducer](
            gather_groups(teacher, assignment),
            gather_margin(margin, assignment),
            group_mask(assignment),
        )
    return partial_l2(student, target, target_margin)


def kd_loss(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    temperature: float = 1.5,
) -> Float32[Tensor, ""]:
    """Knowledge distillation: T²·KL(p_T‖p_S) of the softened classes, mean over the batch.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        student = F.log_softmax(student_logits.float() / temperature, 1)
        teacher = F.log_softmax(teacher_logits.detach().float() / temperature, 1)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return divergence * temperature**2
