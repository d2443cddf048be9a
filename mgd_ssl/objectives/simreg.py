"""SimReg: regress the teacher's pooled features through a head that is thrown away."""

from typing import Literal, get_args

from torch import Tensor

from mgd_ssl.objectives.objective import Objective, Views, mlp, unit

Head = Literal["four", "two", "linear"]


class SimReg(Objective):
    """2 − 2·cos(g(student), teacher), both of the same view; no queue and no key encoder.

    Source: Navaneet et al., Regression as a Simple Yet Effective Tool for Self-supervised
    Knowledge Distillation, BMVC 2021. The paper's head g has four linear layers, of widths 2D, D,
    2D and D_t, with batch norm and ReLU after the first and the third.

    Args:
        features: D of the student.
        teacher_features: D_t.
        head: the paper's; ``two`` layers, of widths 2D and D_t with batch norm and ReLU between;
            or one ``linear`` layer.

    Raises:
        ValueError: unknown head.
    """

    needs_key = False

    def __init__(self, features: int, teacher_features: int, head: Head = "four") -> None:
        super().__init__()
        wide, last = 2 * features, teacher_features
        if head == "four":
            self.head = mlp(features, wide, features, wide, last, norm_after=(1, 3))
        elif head == "two":
            self.head = mlp(features, wide, last, norm_after=(1,))
        elif head == "linear":
            self.head = mlp(features, last)
        else:
            raise ValueError(f"head: got {head!r}, expected one of {', '.join(get_args(Head))}")

    def forward(self, views: Views) -> dict[str, Tensor]:
        """``regression``: the mean over images of the squared distance of the unit vectors."""
        assert views.teacher is not None
        cosine = (unit(self.head(views.output)) * unit(views.teacher)).sum(dim=1)
        return {"regression": 2 - 2 * cosine.mean()}
