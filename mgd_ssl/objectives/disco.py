"""DisCo: MoCo, and the student's embeddings drawn to the teacher's in both views."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mgd_ssl.objectives.objective import Contrastive, Step
from mgd_ssl.ranges import require_least

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class DisCo(Contrastive):
    """disco: MoCo and the distance to the teacher's embedding. See `mgd_ssl.losses.DisCo`."""

    needs_teacher: ClassVar[bool] = True
    encodings: ClassVar[int] = 2

    disco_hidden: int = 2048
    """Width of the head's hidden layer."""
    disco_weight: float = 1.0
    """Factor on the squared distance to the teacher's embedding."""

    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """MoCo with the student as its query encoder, ending in the teacher's dimension."""
        from mgd_ssl.losses.disco import DisCo

        return DisCo(student, teacher_features, self.disco_hidden, **self.momentum_options)

    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """``contrastive`` and ``embedding``."""
        assert step.key is not None
        second = step.encode(step.key)
        distances = loss.distance(step.student, step.teacher)
        distances = distances + loss.distance(second, step.teach_key())
        contrastive = loss(step.student, step.key)
        return {"contrastive": contrastive, "embedding": self.disco_weight * distances}

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_least(self, disco_hidden=1, disco_weight=0)
