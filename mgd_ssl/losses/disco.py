"""DisCo: MoCo, and final embeddings that are drawn to the teacher's."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl.losses.blocks import unit
from mgd_ssl.losses.moco import MoCo


class DisCo(MoCo):
    """InfoNCE of MoCo v2, and ‖s − t‖² between the unit embeddings of both networks, in both views.

    Source: Gao et al., DisCo: Remedying Self-supervised Learning on Lightweight Models with
    Distilled Contrastive Learning, ECCV 2022, arXiv 2104.09124. Its wide head (hidden width 2048)
    ends in the teacher's dimension; the teacher's embedding is its pooled features, as its own head
    is left out on loading.

    Args:
        backbone: from `create_backbone`.
        teacher_features: D_t, also the dimension of MoCo's embedding.
        hidden: width of the head.
        options: of `MoCo`.

    Example:
        >>> disco = DisCo(create_backbone("resnet18"), teacher_features=2048)
        >>> output = disco.encoder_q(query)
        >>> loss = disco(output, key) + disco.distance(output, teacher(query))
    """

    def __init__(
        self, backbone: nn.Module, teacher_features: int, hidden: int = 2048, **options: Any
    ) -> None:
        super().__init__(backbone, dim=teacher_features, hidden=hidden, **options)

    def distance(
        self, student: Float[Tensor, "n d_t"], teacher: Float[Tensor, "n d_t"]
    ) -> Float[Tensor, ""]:
        """Embeddings of the same images -> the mean squared distance of the unit vectors."""
        return (unit(student) - unit(teacher)).square().sum(dim=1).mean()
