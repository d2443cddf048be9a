"""SEED: match the teacher's similarities to a queue of its own embeddings."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl.losses.blocks import enqueue, projection_head, register_queue, unit


class SEED(nn.Module):
    """Cross-entropy between the teacher's and the student's similarity distributions.

    With t the teacher's unit embedding and s the student's, both of the same view, and D⁺ the
    queue of teacher embeddings with t in front: −Σ softmax(t·D⁺/τ_t) log softmax(s·D⁺/τ_s).
    Source: Fang et al., SEED: Self-supervised Distillation for Visual Representation, ICLR 2021,
    arXiv 2101.04731.

    Args:
        features: D of the student.
        teacher_features: D_t, dimension of the queue.
        queue_size: number of teacher embeddings; divisible by the global batch.
        temperature: τ_s, of the student.
        teacher_temperature: τ_t.

    Example:
        >>> loss = SEED(features=512, teacher_features=2048)
        >>> loss(student(images), teacher(images)).backward()
    """

    def __init__(
        self,
        features: int,
        teacher_features: int,
        queue_size: int = 65536,
        temperature: float = 0.2,
        teacher_temperature: float = 0.01,
    ) -> None:
        super().__init__()
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.head = projection_head(features, teacher_features, features)
        register_queue(self, teacher_features, queue_size)

    def forward(
        self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d_t"]
    ) -> Float[Tensor, ""]:
        """Features of the same images -> the mean over them; the teacher's enter the queue."""
        student, teacher = unit(self.head(student)), unit(teacher)
        queue = self.get_buffer("queue").clone()
        with torch.autocast(student.device.type, enabled=False):
            logits = _against(student, teacher, queue) / self.temperature
            target = _against(teacher, teacher, queue) / self.teacher_temperature
            loss = F.cross_entropy(logits, target.softmax(dim=1))
        enqueue(self, teacher)
        return loss


def _against(x: Tensor, first: Tensor, queue: Tensor) -> Tensor:
    """(N,1+K): similarity of each row to its own ``first``, then to the queue."""
    return torch.cat([(x * first).sum(dim=1, keepdim=True), x @ queue], dim=1)
