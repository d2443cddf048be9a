"""SimReg: the student regresses the teacher's pooled features."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mgd_ssl.objectives.objective import Objective, Step

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SimReg(Objective):
    """simreg: regression of the teacher's pooled features. See `mgd_ssl.losses.SimReg`."""

    needs_teacher: ClassVar[bool] = True
    lr: ClassVar[float] = 0.05

    regression_head: Literal["four", "linear"] = "four"
    """Layers of the head that is thrown away: four, as in the paper, or one linear layer."""

    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """The loss and its head."""
        from mgd_ssl.losses.simreg import SimReg

        return SimReg(student.num_features, teacher_features, self.regression_head)  # type: ignore[arg-type]

    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """``regression``."""
        return {"regression": loss(step.student, step.teacher)}
