"""The loss of a stage, and knowledge distillation of the logits.

Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mgd_ssl.choices import REDUCERS
from mgd_ssl.matching.reducers import gather_groups, gather_margin, group_mask

# Student elements worked on at a time: what stays in a CPU's cache, what fills a GPU.
CPU_BLOCK, GPU_BLOCK = 2**19, 2**22


def partial_l2(
    student: Float[Tensor, "n c h w"],
    target: Float[Tensor, "_ _ _ _"],
    margin: Float[Tensor, "_"] | Float[Tensor, "_ _ _ _"],
) -> Float32[Tensor, ""]:
    """Squared distance to the target, unless both are at rest below the activation.

    With τ = max(target, margin), detached: Σ (s − τ)² · 1[s > τ or τ > 0], in float32 also under
    autocast. The gradient reaches the student alone and is of first order only.

    Args:
        student: (N, C, H, W) pre-activation maps after the adapter.
        target: (N, C, H, W) reduced teacher maps.
        margin: (C,), or (N, C, H, W) where the reducer draws one for each pixel.

    Raises:
        ValueError: The target or the margin is not of the student's shape.

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019.
    """
    shape = student.shape
    if target.shape != shape or margin.shape not in ((shape[1],), shape):
        raise ValueError(
            f"partial L2: got a target {tuple(target.shape)} and a margin {tuple(margin.shape)} "
            f"for a student {tuple(shape)}, expected the student's shape and a margin for each "
            "channel or element; pass what a reducer returns"
        )

    def threshold(images: slice) -> Tensor:
        return _threshold(target[images], margin if margin.ndim == 1 else margin[images])

    return _partial_l2(student, threshold)


def matching_loss(
    student: Float[Tensor, "n c_s h w"],
    teacher: Float[Tensor, "_ c_t _ _"],
    assignment: Int64[Tensor, "rows g"],
    margin: Float[Tensor, "margins"],
    reducer: str = "amp",
    *,
    full: bool | None = None,
    two_sided: bool = False,
) -> Float32[Tensor, ""]:
    """A stage's loss: the partial L2 distance to the teacher's maps reduced by group.

    The value and gradient of gathering the groups, reducing them and calling `partial_l2`, without
    ever holding the groups of more than a few images. On CUDA ``rd`` draws block by block, so its
    draws differ from those of one call over the batch.

    Args:
        student: (N, C_s, H, W) pre-activation maps after the adapter.
        teacher: (N, C_t, H, W) pre-activation maps.
        assignment: (C_s, G) teacher channels of each student channel, -1 pads.
        margin: (C_t,) teacher margins.
        reducer: A name in ``REDUCERS``.
        full: Whether no row holds a pad, which spares a copy of the groups; None looks, where that
            does not make the device wait.
        two_sided: Count every element, Σ (s − t)², where no activation follows the teacher's map;
            the margins play no part.

    Returns:
        Sum over all elements, float32.

    Raises:
        ValueError: The shapes do not belong together, or the reducer is unknown.
    """
    _check(student, teacher, assignment, margin, reducer)
    grouped_margin = gather_margin(margin, assignment)
    if full is None:
        full = assignment.device.type == "cpu" and bool((assignment >= 0).all())
    mask = None if full else group_mask(assignment)

    # No function of its own name: checked shapes would cost a decoration at each call.
    return _partial_l2(
        student,
        lambda images: _reduced(
            teacher[images], assignment, grouped_margin, mask, reducer, two_sided
        ),
        two_sided,
    )


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


def _check(
    student: Tensor, teacher: Tensor, assignment: Tensor, margin: Tensor, reducer: str
) -> None:
    if len(student) != len(teacher) or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"matching loss: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} "
            "differ in batch or side, expected both equal; tap stages of the same resolution and "
            "feed both networks the same images"
        )
    if len(assignment) != student.shape[1] or len(margin) != teacher.shape[1]:
        raise ValueError(
            f"matching loss: got an assignment of {len(assignment)} rows and {len(margin)} margins "
            f"for {student.shape[1]} student and {teacher.shape[1]} teacher channels, expected one "
            "each; pass the matching solved for this stage"
        )
    if reducer not in REDUCERS:
        raise ValueError(
            f"matching loss: got reducer {reducer!r}, expected one of {', '.join(REDUCERS)}"
        )


def _reduced(
    teacher: Tensor,
    assignment: Tensor,
    margin: Tensor,
    mask: Tensor | None,
    reducer: str,
    two_sided: bool,
) -> Tensor:
    """A few images' maps, reduced by group, and their threshold τ where the loss is one-sided."""
    if assignment.shape[1] == 1:  # which every reducer leaves as it is
        reduced, bound = teacher.index_select(1, assignment[:, 0]), margin[:, 0]
    else:
        reduced, bound = REDUCERS[reducer](gather_groups(teacher, assignment), margin, mask)
    return reduced.float() if two_sided else _threshold(reduced, bound)


def _threshold(target: Tensor, margin: Tensor) -> Tensor:
    """τ = max(target, margin) in float32; margin (C,) or as the target."""
    margin = margin[:, None, None] if margin.ndim == 1 else margin
    return torch.maximum(target.float(), margin.float())


def _partial_l2(
    student: Tensor, target: Callable[[slice], Tensor], two_sided: bool = False
) -> Tensor:
    want_gradient = student.requires_grad and torch.is_grad_enabled()
    # Compiled code calls it as it is: its backward writes in place.
    apply: Callable[..., Tensor] = torch.compiler.disable(_PartialL2.apply)
    return apply(student, target, want_gradient, two_sided)


class _PartialL2(torch.autograd.Function):
    """Loss and gradient in one pass over blocks of images; ``target(images)`` gives their τ."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        target: Callable[[slice], Tensor],
        want_gradient: bool,
        two_sided: bool,
    ) -> Tensor:
        loss = student.new_zeros((), dtype=torch.float32)
        residual = torch.empty_like(student) if want_gradient else None
        with torch.autocast(student.device.type, enabled=False):
            for images in _blocks(student):
                s, tau = student[images].float(), target(images)
                e = s - tau if two_sided else _residual(s, tau)
                if residual is not None:
                    residual[images] = e
                loss += e.square_().sum()
        if residual is not None:
            ctx.save_for_backward(residual)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (residual,) = ctx.saved_tensors
        # A fresh map costs the CPU as much as the whole loss (page faults), so the residual becomes
        # the gradient in place, unless the graph is kept for another backward.
        scaled = torch.mul if _graph_is_kept() else Tensor.mul_
        return scaled(residual, 2 * gradient), None, None, None


def _residual(student: Tensor, tau: Tensor) -> Tensor:
    """(s − τ) · 1[s > τ or τ > 0]; torch.where is many times slower on CPU."""
    distance = student - tau
    active = torch.ops.aten.threshold_backward(distance, tau, 0)  # distance where τ > 0, else 0
    return torch.maximum(distance, active)


def _blocks(student: Tensor) -> list[slice]:
    """Slices of images, each of about as many student elements as suit the device."""
    block = CPU_BLOCK if student.device.type == "cpu" else GPU_BLOCK
    n = len(student)
    images = max(1, block * n // max(1, student.numel()))
    return [slice(i, i + images) for i in range(0, n, images)]


# Autograd does not publish whether the running backward keeps its graph; without it, suppose so.
_graph_is_kept: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True
)
