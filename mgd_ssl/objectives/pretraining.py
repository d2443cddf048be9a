"""What a pretraining step computes: MoCo alone, or with a teacher's maps to match."""

from typing import Any

from torch import Tensor, nn

from mgd_ssl.objectives.moco import MoCo
from mgd_ssl.objectives.task import Task


class Pretraining(Task):
    """Two views of each image in; named losses out.

    Args:
        moco: the student's objective; its query encoder is the student.
        normalize: images in [0,1] -> what the student expects.
        contrastive_weight: factor on InfoNCE; 0 leaves distillation alone to drive the student.
        distillation: ``reader``, ``teacher`` and ``distiller`` of `Task`; none trains plain MoCo.
    """

    def __init__(
        self,
        moco: MoCo,
        normalize: nn.Module | None = None,
        contrastive_weight: float = 1.0,
        **distillation: Any,
    ) -> None:
        super().__init__(moco.encoder_q, normalize or nn.Identity(), **distillation)
        self.moco, self.contrastive_weight = moco, contrastive_weight

    def forward(self, query: Tensor, key: Tensor) -> dict[str, Tensor]:
        """(N,3,H,W) views in [0,1] -> ``contrastive``, and ``matching/NAME`` of the query."""
        images, key = self.normalize(query), self.normalize(key)
        if not (self.teacher and self.distiller and self.reader):
            return {"contrastive": self._contrast(self.student(images), key)}
        teacher_maps, _ = self.teacher(query)
        maps, embedding = self.reader(self.student, images)
        losses = {"contrastive": self._contrast(embedding, key)}
        matching: dict[str, Tensor] = self.distiller(maps, teacher_maps)
        return losses | matching

    def _contrast(self, embedding: Tensor, key: Tensor) -> Tensor:
        return self.contrastive_weight * self.moco.contrast(embedding, key)
