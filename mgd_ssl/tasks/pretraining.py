"""What a pretraining step computes: an objective's losses, and the matching of a teacher's maps."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mgd_ssl.objectives import Objective, Step
from mgd_ssl.tasks.task import Task, View, images_of


class Pretraining(Task):
    """One or two views of each image in; named losses out.

    Args:
        student: the network to train; MoCo's query encoder where the objective is MoCo.
        objective: what drives the student from its output.
        loss: from ``objective.build``.
        normalize: images in [0,1] -> what the student expects.
        distillation: ``reader``, ``teacher``, ``distiller`` and ``cached`` of `Task`; a teacher
            without a distiller gives the objective its features alone.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        loss: nn.Module,
        normalize: nn.Module | None = None,
        **distillation: Any,
    ) -> None:
        super().__init__(student, normalize or nn.Identity(), **distillation)
        self.objective, self.loss = objective, loss
        self.encodings = objective.encodings

    def frozen(self) -> list[tuple[nn.Module, Callable[[Tensor], Any]]]:
        """The teacher, and the objective's key encoder where it has one."""
        encoder = getattr(self.loss, "encoder_k", None)
        if encoder is None:
            return super().frozen()
        return [*super().frozen(), (encoder, lambda images: encoder(self.normalize(images)))]

    def forward(self, query: View, key: View | None = None) -> dict[str, Tensor]:
        """(N,3,H,W) views in [0,1] -> the objective's losses, and ``matching/NAME``.

        Student and teacher are matched on the query.
        """
        taught = self.taught(query) if self.teacher else None
        maps, output = self.reader(self.student, self.normalize(images_of(query)))
        step = Step(
            student=output,
            teacher=taught.output if taught else None,
            key=None if key is None else self.normalize(images_of(key)),
            encode=self.student,
            teach_key=lambda: self.taught(key).output,
        )
        weight = self.objective.objective_weight
        losses = {k: weight * v for k, v in self.objective.losses(self.loss, step).items()}
        if self.distiller and taught:
            losses |= self.distiller(maps, taught.maps)
        return losses
