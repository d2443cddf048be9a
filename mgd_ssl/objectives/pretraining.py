"""What a pretraining step computes: MoCo alone, or with a teacher's maps to match."""

from collections.abc import Sequence

from torch import Tensor, nn

from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.models import FeatureReader
from mgd_ssl.objectives.moco import MoCo


class Pretraining(nn.Module):
    """Two views, and the teacher's maps of the first, in; named losses out.

    Args:
        moco: the student's objective; its query encoder is the student.
        distiller: matches the student's maps to the teacher's; None trains plain MoCo.
        reader: reads the student's maps.
        contrastive_weight: factor on InfoNCE; 0 leaves distillation alone to drive the student.
    """

    def __init__(
        self,
        moco: MoCo,
        distiller: FeatureDistiller | None = None,
        reader: FeatureReader | None = None,
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.moco, self.distiller, self.reader = moco, distiller, reader
        self.contrastive_weight = contrastive_weight

    def forward(
        self, query: Tensor, key: Tensor, teacher_maps: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """(N,3,H,W) views, a (N,C_t,H_i,W_i) a stage -> ``contrastive`` and ``matching/NAME``."""
        if self.distiller is None or self.reader is None or teacher_maps is None:
            return {"contrastive": self._contrast(self.moco.encoder_q(query), key)}
        maps, embedding = self.reader(self.moco.encoder_q, query)
        losses = {"contrastive": self._contrast(embedding, key)}
        matching: dict[str, Tensor] = self.distiller(maps, teacher_maps)
        return losses | matching

    def _contrast(self, embedding: Tensor, key: Tensor) -> Tensor:
        return self.contrastive_weight * self.moco.contrast(embedding, key)
