"""SimSiam: two views agree, without negatives, queue or key encoder."""

from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl.losses.blocks import mlp, unit


class SimSiam(nn.Module):
    """−½ (cos(h(z₁), z₂) + cos(h(z₂), z₁)), z the projections of two views, the latter detached.

    Source: Chen, He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv
    2011.10566: a projector of three layers with batch norm after each, and a predictor h of two
    layers whose hidden width is a quarter.

    Args:
        features: D of the student.
        dim: of the projection; 2048 in the paper.

    Example:
        >>> loss = SimSiam(features=512)
        >>> loss(student(view), student(other_view)).backward()
    """

    def __init__(self, features: int, dim: int = 2048) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"dim: got {dim}, expected a multiple of 4, as the predictor narrows")
        self.projector = mlp(features, dim, dim, dim, norm_after=(1, 2), last_norm=True)
        self.predictor = mlp(dim, dim // 4, dim, norm_after=(1,))

    def forward(
        self, first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]
    ) -> Float[Tensor, ""]:
        """The student's features of two views -> the mean over images; −1 where they agree."""
        first, second = self.projector(first), self.projector(second)
        return (self._distance(first, second) + self._distance(second, first)) / 2

    def _distance(self, x: Tensor, target: Tensor) -> Tensor:
        return -(unit(self.predictor(x)) * unit(target.detach())).sum(dim=1).mean()
