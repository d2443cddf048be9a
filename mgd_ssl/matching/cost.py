"""Matching cost: how far each teacher channel is from each student channel, averaged over images.

Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

NORM_FLOOR = 1e-12
# Normalized values held at a time, student and teacher together.
CPU_CHUNK, GPU_CHUNK = 2**21, 2**25
WITHOUT_FLOAT64 = ("mps",)


def float64_device(device: torch.device | str) -> torch.device:
    """Where float64 sums of a device's values are kept: there, or on the CPU where it has none."""
    device = torch.device(device)
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


class CostAccumulator:
    """Sum the matching cost over batches, in memory O(C_s·C_t) whatever their number and size.

    Several processes accumulate their shards apart, then sum the tensors of ``state`` in place
    over the processes; afterwards ``result`` is the same on each.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        device: Where the sums start; the first update moves them to the features' device, or to
            the CPU where that has no float64.

    Attributes:
        dots: (C_s, C_t) float64, the sum over images of the normalized channels' dot products.
        images: () int64, the exact number of images summed.
    """

    dots: Float64[Tensor, "c_s c_t"]
    images: Int64[Tensor, ""]

    def __init__(
        self, student_channels: int, teacher_channels: int, device: torch.device | str = "cpu"
    ) -> None:
        self.dots = torch.zeros(
            student_channels, teacher_channels, dtype=torch.float64, device=float64_device(device)
        )
        self.images = torch.zeros((), dtype=torch.int64, device=self.dots.device)

    @torch.no_grad()
    def update(
        self, student: Float[Tensor, "n c_s h w"], teacher: Float[Tensor, "_ c_t _ _"]
    ) -> None:
        """Add a batch of raw feature maps: student (N,C_s,H,W), teacher (N,C_t,H,W).

        Half precision is computed in float32, also under autocast.

        Raises:
            ValueError: Batch, side or channel counts differ, or a feature is not finite; the
                sums are then left as they were.
        """
        self._check(student, teacher)
        with torch.autocast(student.device.type, enabled=False):
            dots = _sum_of_dots(student.flatten(2), teacher.flatten(2))
        if not torch.isfinite(dots.sum()):
            raise ValueError(
                "matching cost: student or teacher features hold NaN or infinity (or values whose "
                "squares overflow), expected finite features; check the inputs and the weights"
            )
        self.dots = self.dots.to(dots.device) + dots
        self.images = self.images.to(dots.device) + len(student)

    def state(self) -> tuple[Float64[Tensor, "c_s c_t"], Int64[Tensor, ""]]:
        """The sums themselves, not copies: ``dots`` and ``images``."""
        return self.dots, self.images

    def result(self) -> Float64[Tensor, "c_s c_t"]:
        """Mean over images of 2 − 2⟨ŝ, t̂⟩, each entry in [0, 4].

        Raises:
            ValueError: No image was added.
        """
        if self.images == 0:
            raise ValueError(
                "matching cost: 0 images were added, expected at least 1; "
                "call update() with features before result()"
            )
        return 2 - 2 * self.dots / self.images

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        got = (student.shape[1], teacher.shape[1])
        if got != tuple(self.dots.shape):
            raise ValueError(
                f"matching cost: got {got} student and teacher channels, expected "
                f"{tuple(self.dots.shape)}; build one accumulator for each stage"
            )
        if len(student) != len(teacher) or student.shape[2:] != teacher.shape[2:]:
            raise ValueError(
                f"matching cost: student {tuple(student.shape)} and teacher "
                f"{tuple(teacher.shape)} differ in batch or side, expected both equal; tap stages "
                "of the same resolution and feed both networks the same images"
            )


def channel_cost(
    student: Float[Tensor, "n c_s h w"], teacher: Float[Tensor, "_ c_t _ _"]
) -> Float64[Tensor, "c_s c_t"]:
    """Matching cost of one batch.

    D[s,t] = (1/N) Σ_n (2 − 2⟨ŝ_ns, t̂_nt⟩), channels flattened over H×W and L2-normalized (norm
    floored at 1e-12). A channel that is zero in an image costs 2 in it.

    Args:
        student: (N, C_s, H, W) raw features, before any adapter.
        teacher: (N, C_t, H, W).

    Returns:
        (C_s, C_t) float64, each entry in [0, 4].

    Raises:
        ValueError: Batch or side differ, N is 0, or a feature is not finite.
    """
    cost = CostAccumulator(student.shape[1], teacher.shape[1], student.device)
    cost.update(student, teacher)
    return cost.result()


def _sum_of_dots(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ_n ŝ_n t̂_nᵀ of (N, C, H·W) features: one matrix product over all pixels of some images."""
    per_image = max(1, (student.shape[1] + teacher.shape[1]) * student.shape[2])
    images = max(1, (CPU_CHUNK if student.device.type == "cpu" else GPU_CHUNK) // per_image)
    total = torch.zeros(
        student.shape[1],
        teacher.shape[1],
        dtype=torch.float64,
        device=float64_device(student.device),
    )
    for n in range(0, len(student), images):
        dots = _normalized(student[n : n + images]) @ _normalized(teacher[n : n + images]).T
        total += dots.to(total.device)
    return total


def _normalized(x: Tensor) -> Tensor:
    """(n, C, P) → (C, n·P), each image's channel of unit length, at least float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32)).transpose(0, 1)
    norm = torch.linalg.vector_norm(x, dim=2, keepdim=True).clamp_min(NORM_FLOOR)
    norm = norm.where(norm.isfinite(), torch.nan)  # x / inf would hide an overflow as zeros
    unit = x.new_empty(x.shape)  # contiguous, unlike what the division would make by itself
    return torch.div(x, norm, out=unit).flatten(1)
