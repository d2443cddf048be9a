"""SimSiam: two views agree, without negatives, queue or key encoder."""

from torch import Tensor

from mgd_ssl.objectives.objective import Objective, Views, mlp, unit


class SimSiam(Objective):
    """−½ (cos(h(z₁), z₂) + cos(h(z₂), z₁)), z the projections of two views, the latter detached.

    Source: Chen, He, Exploring Simple Siamese Representation Learning, CVPR 2021: a projector of
    three layers with batch norm after each, and a predictor h of two with a hidden width of a
    quarter.

    Args:
        features: D of the student.
        dim: of the projection; 2048 in the paper.
    """

    encodings = 2

    def __init__(self, features: int, dim: int = 2048) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"dim: got {dim}, expected a multiple of 4, as the predictor narrows")
        self.projector = mlp(features, dim, dim, dim, norm_after=(1, 2), last_norm=True)
        self.predictor = mlp(dim, dim // 4, dim, norm_after=(1,))

    def forward(self, views: Views) -> dict[str, Tensor]:
        """``siamese``: −1 where the views agree wholly, mean over images."""
        assert views.key is not None
        first = self.projector(views.output)
        second = self.projector(views.encode(views.key))
        loss = self._distance(first, second) + self._distance(second, first)
        return {"siamese": loss / 2}

    def _distance(self, x: Tensor, target: Tensor) -> Tensor:
        return -(unit(self.predictor(x)) * unit(target.detach())).sum(dim=1).mean()
