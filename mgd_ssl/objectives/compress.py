"""CompRess: the student's similarities to a memory bank follow the teacher's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mgd_ssl.objectives.objective import Step, WithQueue
from mgd_ssl.ranges import require_above

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class CompRess(WithQueue):
    """compress: similarities to a bank of teacher embeddings. See `mgd_ssl.losses.CompRess`."""

    needs_teacher: ClassVar[bool] = True
    lr: ClassVar[float] = 0.01

    compress_t: float = 0.04
    """Temperature of both networks."""

    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """The loss, its linear layer and its bank."""
        from mgd_ssl.losses.compress import CompRess

        features: int = student.num_features  # type: ignore[assignment]
        return CompRess(features, teacher_features, self.moco_k, self.compress_t)

    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """``similarity``."""
        return {"similarity": loss(step.student, step.teacher)}

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_above(self, compress_t=0)
