"""SimSiam: two views agree, without negatives, queue or key encoder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mgd_ssl.objectives.objective import Objective, Step
from mgd_ssl.ranges import require_least

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SimSiam(Objective):
    """simsiam: two views agree; needs no teacher. See `mgd_ssl.losses.SimSiam`."""

    views: ClassVar[int] = 2
    encodings: ClassVar[int] = 2

    simsiam_dim: int = 2048
    """Dimension of the projection, divisible by 4."""

    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """The loss, its projector and its predictor."""
        from mgd_ssl.losses.simsiam import SimSiam

        return SimSiam(student.num_features, self.simsiam_dim)  # type: ignore[arg-type]

    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """``siamese``."""
        assert step.key is not None
        return {"siamese": loss(step.student, step.encode(step.key))}

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_least(self, simsiam_dim=4)
