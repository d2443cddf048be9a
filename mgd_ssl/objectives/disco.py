"""DisCo: MoCo, and final embeddings that are drawn to the teacher's."""

from typing import Any

from torch import Tensor, nn

from mgd_ssl.objectives.moco import MoCo
from mgd_ssl.objectives.objective import Views, unit


class DisCo(MoCo):
    """InfoNCE of MoCo v2, and ‖s − t‖² between the unit embeddings of both networks, in both views.

    Source: Gao et al., DisCo: Remedying Self-supervised Learning on Lightweight Models with
    Distilled Contrastive Learning, ECCV 2022. Its wide head (hidden width 2048) ends in the
    teacher's dimension; the teacher's embedding is its pooled features, as its own head is left
    out on loading.

    Args:
        backbone: from `create_backbone`.
        teacher_features: D_t, also the dimension of MoCo's embedding.
        hidden: width of the head.
        weight: factor on the squared distances.
        options: of `MoCo`.
    """

    encodings = 2

    def __init__(
        self,
        backbone: nn.Module,
        teacher_features: int,
        hidden: int = 2048,
        weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(backbone, dim=teacher_features, hidden=hidden, **options)
        self.weight = weight

    def forward(self, views: Views) -> dict[str, Tensor]:
        """``contrastive`` and ``embedding``, means over images."""
        assert views.key is not None and views.teacher is not None
        second = views.encode(views.key)
        distance = _squared(views.output, views.teacher) + _squared(second, views.teach_key())
        return super().forward(views) | {"embedding": self.weight * distance}


def _squared(student: Tensor, teacher: Tensor) -> Tensor:
    return (unit(student) - unit(teacher)).square().sum(dim=1).mean()
