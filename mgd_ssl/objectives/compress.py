"""CompRess: match similarities to memory banks, one shared or one for each network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgd_ssl.objectives.objective import Objective, Views, enqueue, register_queue, unit


class CompRess(Objective):
    """KL of the student's similarity distribution from the teacher's, over banks of anchors.

    With one queue both networks are compared with the same teacher embeddings, the student
    through a linear layer; with two, each with embeddings of its own of the same images.
    Source: Koohpayegani, Tejankar, Pirsiavash, CompRess: Self-Supervised Learning by Compressing
    Representations, NeurIPS 2020.

    Args:
        features: D of the student.
        teacher_features: D_t.
        queue_size: anchors of a bank; divisible by the global batch.
        queues: 1 or 2.
        temperature: of both distributions.
    """

    needs_key = False

    def __init__(
        self,
        features: int,
        teacher_features: int,
        queue_size: int = 65536,
        queues: int = 1,
        temperature: float = 0.04,
    ) -> None:
        super().__init__()
        if queues not in (1, 2):
            raise ValueError(f"queues: got {queues}, expected 1 or 2")
        self.queues, self.temperature = queues, temperature
        self.head = nn.Linear(features, teacher_features) if queues == 1 else nn.Identity()
        register_queue(self, teacher_features, queue_size)
        if queues == 2:
            register_queue(self, features, queue_size, "student_queue")

    def forward(self, views: Views) -> dict[str, Tensor]:
        """``similarity``: mean over images; moves the queues on."""
        assert views.teacher is not None
        student, teacher = unit(self.head(views.output)), unit(views.teacher)
        own = "queue" if self.queues == 1 else "student_queue"
        anchors, own_anchors = (self.get_buffer(name).clone() for name in ("queue", own))
        with torch.autocast(student.device.type, enabled=False):
            target = (teacher @ anchors / self.temperature).log_softmax(dim=1)
            output = (student @ own_anchors / self.temperature).log_softmax(dim=1)
            loss = F.kl_div(output, target, reduction="batchmean", log_target=True)
        enqueue(self, teacher)
        if self.queues == 2:
            enqueue(self, student.detach(), "student_queue")
        return {"similarity": loss}
