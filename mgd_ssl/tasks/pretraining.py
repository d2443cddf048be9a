"""What a pretraining step computes: an objective, and a teacher's maps to match."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mgd_ssl.distiller import Maps
from mgd_ssl.objectives.objective import Objective, Views
from mgd_ssl.tasks.task import Task


class Pretraining(Task):
    """One or two views of each image in; named losses out.

    Args:
        student: the network to train; MoCo's query encoder where the objective is MoCo.
        objective: what drives the student from its output.
        normalize: images in [0,1] -> what the student expects.
        objective_weight: factor on the objective's losses; 0 leaves the matching alone.
        distillation: ``reader``, ``teacher`` and ``distiller`` of `Task`; a teacher without a
            distiller gives the objective its features alone.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        normalize: nn.Module | None = None,
        objective_weight: float = 1.0,
        **distillation: Any,
    ) -> None:
        super().__init__(student, normalize or nn.Identity(), **distillation)
        self.objective, self.objective_weight = objective, objective_weight

        self.encodings = objective.encodings

    def frozen(self) -> list[tuple[nn.Module, Callable[[Tensor], Any]]]:
        """The teacher, and the objective's key encoder where it has one."""
        encoder = getattr(self.objective, "encoder_k", None)
        return super().frozen() + ([(encoder, encoder)] if encoder is not None else [])

    def forward(self, query: Tensor, key: Tensor | None = None) -> dict[str, Tensor]:
        """(N,3,H,W) views in [0,1] -> the objective's losses, and ``matching/NAME``.

        Student and teacher are matched on the query.
        """
        teacher_maps, teacher_output = self.teacher(query) if self.teacher else ([], None)
        images = self.normalize(query)
        maps, output = self._read(images)
        views = Views(
            output=output,
            key=None if key is None else self.normalize(key),
            teacher=teacher_output,
            encode=self.student,
            teach_key=lambda: self.teacher(key)[1],  # type: ignore[misc]
        )
        losses = {k: self.objective_weight * v for k, v in self.objective(views).items()}
        if self.distiller:
            losses |= self.distiller(maps, teacher_maps)
        return losses

    def _read(self, images: Tensor) -> tuple[Maps, Tensor]:
        if self.distiller and self.reader:
            return self.reader(self.student, images)
        return [], self.student(images)
