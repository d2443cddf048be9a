"""SimReg: regress the teacher's pooled features through a head that is thrown away."""

from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl.losses.blocks import mlp, unit


class SimReg(nn.Module):
    """2 − 2·cos(g(student), teacher), both of the same view; no queue and no key encoder.

    Source: Navaneet et al., Regression as a Simple Yet Effective Tool for Self-supervised
    Knowledge Distillation, BMVC 2021, arXiv 2201.05131. The paper's head g has four linear layers,
    of widths 2D, D, 2D and D_t, with batch norm and ReLU after the first and the third.

    Args:
        features: D of the student.
        teacher_features: D_t.
        head: ``four``, the paper's head, or one ``linear`` layer.

    Raises:
        ValueError: unknown head.

    Example:
        >>> loss = SimReg(features=512, teacher_features=2048)
        >>> loss(student(images), teacher(images)).backward()
    """

    def __init__(self, features: int, teacher_features: int, head: str = "four") -> None:
        super().__init__()
        if head == "four":
            widths = (2 * features, features, 2 * features, teacher_features)
            self.head = mlp(features, *widths, norm_after=(1, 3))
        elif head == "linear":
            self.head = mlp(features, teacher_features)
        else:
            raise ValueError(f"head: got {head!r}, expected four or linear")

    def forward(
        self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d_t"]
    ) -> Float[Tensor, ""]:
        """Features of the same images -> the mean squared distance of the unit vectors, 0 to 4."""
        cosine = (unit(self.head(student)) * unit(teacher)).sum(dim=1)
        return 2 - 2 * cosine.mean()
