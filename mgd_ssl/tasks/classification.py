"""What a step of supervised classification computes, with a teacher or without one."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mgd_ssl.matching import kd_loss
from mgd_ssl.models import head_of
from mgd_ssl.tasks.task import Task, TaughtView, View, images_of


class Classification(Task):
    """Labeled images in; cross-entropy, knowledge distillation and matching out.

    Source of the total: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020.

    Args:
        student: (N,3,H,W) -> (N,K) logits.
        normalize: images in [0,1] -> what the student expects.
        kd_weight: factor on knowledge distillation of the teacher's logits; 0 leaves it out.
        kd_temperature: of its softened classes.
        distillation: ``reader``, ``teacher``, ``distiller`` and ``cached`` of `Task`; none trains
            the student alone. Without a distiller the teacher gives its logits alone.
    """

    def __init__(
        self,
        student: nn.Module,
        normalize: nn.Module,
        *,
        kd_weight: float = 0.0,
        kd_temperature: float = 1.5,
        **distillation: Any,
    ) -> None:
        super().__init__(student, normalize, **distillation)
        self.kd_weight, self.kd_temperature = kd_weight, kd_temperature

    def forward(self, images: View, labels: Int64[Tensor, "n"]) -> dict[str, Tensor]:
        """Views in [0,1] and their classes -> ``classification``, ``kd``, ``matching/NAME``."""
        taught = self.taught(images) if self.teacher else None
        maps, logits = self.reader(self.student, self.normalize(images_of(images)))
        losses = {"classification": _cross_entropy(logits, labels)}
        if taught and self.kd_weight:
            kd = kd_loss(logits, self._teacher_logits(taught), self.kd_temperature)
            losses["kd"] = self.kd_weight * kd
        if taught and self.distiller:
            losses |= self.distiller(maps, taught.maps)
        return losses

    def free_teacher(self) -> None:
        """See `Task.free_teacher`; a teacher whose head gives the logits stays."""
        if not self.kd_weight:
            super().free_teacher()

    @torch.no_grad()
    def _teacher_logits(self, taught: TaughtView) -> Float[Tensor, "n k"]:
        """The teacher's logits; where it is not asked, its head takes the features stored."""
        assert self.teacher
        if not self.cached:
            return taught.output
        logits: Tensor = head_of(self.teacher.network)(taught.output)
        return logits


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.float(), labels)
