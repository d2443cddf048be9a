"""SEED: the student's similarities to a queue of teacher embeddings follow the teacher's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mgd_ssl.objectives.objective import Step, WithQueue
from mgd_ssl.ranges import require_above

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SEED(WithQueue):
    """seed: similarities to a queue of the teacher's embeddings. See `mgd_ssl.losses.SEED`."""

    needs_teacher: ClassVar[bool] = True

    seed_t: float = 0.2
    """Temperature of the student."""
    seed_teacher_t: float = 0.01
    """Temperature of the teacher."""

    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """The loss, its head and its queue."""
        from mgd_ssl.losses.seed import SEED

        features: int = student.num_features  # type: ignore[assignment]
        return SEED(features, teacher_features, self.moco_k, self.seed_t, self.seed_teacher_t)

    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """``similarity``."""
        return {"similarity": loss(step.student, step.teacher)}

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_above(self, seed_t=0, seed_teacher_t=0)
