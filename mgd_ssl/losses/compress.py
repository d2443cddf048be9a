"""CompRess: match similarities to a memory bank of the teacher's embeddings."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl.losses.blocks import enqueue, register_queue, unit


class CompRess(nn.Module):
    """KL of the student's similarity distribution from the teacher's, over a bank of anchors.

    Both networks are compared with the same teacher embeddings, the student through a linear layer
    (the paper's form with one queue).
    Source: Koohpayegani, Tejankar, Pirsiavash, CompRess: Self-Supervised Learning by Compressing
    Representations, NeurIPS 2020, arXiv 2010.14713.

    Args:
        features: D of the student.
        teacher_features: D_t.
        queue_size: anchors of the bank; divisible by the global batch.
        temperature: of both distributions.

    Example:
        >>> loss = CompRess(features=512, teacher_features=2048)
        >>> loss(student(images), teacher(images)).backward()
    """

    def __init__(
        self,
        features: int,
        teacher_features: int,
        queue_size: int = 65536,
        temperature: float = 0.04,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.head = nn.Linear(features, teacher_features)
        register_queue(self, teacher_features, queue_size)

    def forward(
        self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d_t"]
    ) -> Float[Tensor, ""]:
        """Features of the same images -> the mean over them; the teacher's enter the bank."""
        student, teacher = unit(self.head(student)), unit(teacher)
        anchors = self.get_buffer("queue").clone()
        with torch.autocast(student.device.type, enabled=False):
            target = (teacher @ anchors / self.temperature).log_softmax(dim=1)
            output = (student @ anchors / self.temperature).log_softmax(dim=1)
            loss = F.kl_div(output, target, reduction="batchmean", log_target=True)
        enqueue(self, teacher)
        return loss
