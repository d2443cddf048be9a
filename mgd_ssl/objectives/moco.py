"""Momentum Contrast: the student tells a batch's images from a queue of earlier ones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgd_ssl.objectives.objective import Contrastive, Step
from mgd_ssl.ranges import require_least

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class MoCo(Contrastive):
    """moco: Momentum Contrast, v1 and v2; needs no teacher. See `mgd_ssl.losses.MoCo`."""

    moco_dim: int = 128
    """Dimension of the embedding."""
    mlp: bool = True
    """Hidden layer in the head (MoCo v2)."""

    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """MoCo with the student as its query encoder."""
        from mgd_ssl.losses.moco import MoCo

        return MoCo(student, dim=self.moco_dim, mlp=self.mlp, **self.momentum_options)

    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """``contrastive``."""
        return {"contrastive": loss(step.student, step.key)}

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_least(self, moco_dim=1)
