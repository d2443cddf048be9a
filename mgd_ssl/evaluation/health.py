"""Figures without labels that show whether distillation works.

Neighbor overlap and CKA compare a student with its teacher on the same images; effective rank
looks at one network and falls when its features collapse.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mgd_ssl.evaluation.inputs import Array, as_features
from mgd_ssl.evaluation.retrieval import neighbors


def neighbor_overlap(teacher: Array, student: Array, k: int = 10) -> float:
    """Mean share of an image's k nearest neighbors that two networks agree on, in [0,1].

    By cosine, within the same N images, an image never its own neighbor. Two unrelated networks
    are at k / (N-1) on average.

    Args:
        teacher: features (N,D_t).
        student: features of the same images, in the same order, (N,D_s).
        k: number of neighbors, 1 ≤ k ≤ N-1.

    Raises:
        ValueError: the two differ in N, or as ``knn_search``.
    """
    teacher, student = as_features("teacher", teacher), as_features("student", student)
    _check_same_images(teacher, student)
    own = torch.arange(len(teacher), device=teacher.device)
    of_teacher = neighbors(teacher, teacher, k, own).indices.sort(dim=1).values
    of_student = neighbors(student, student, k, own).indices
    places = torch.searchsorted(of_teacher, of_student).clamp_(max=k - 1)
    agreed = of_teacher.gather(1, places) == of_student
    return float(agreed.double().mean())


def linear_cka(x: Array, y: Array) -> float:
    """Linear centered kernel alignment of two networks' features of the same images, in [0,1].

    |YᵀX|² / (|XᵀX| |YᵀY|), Frobenius norms of column-centered features, in float64. It does not
    change with rotation or scale of either. Kornblith et al., Similarity of Neural Network
    Representations Revisited, ICML 2019.

    Args:
        x: (N,D_x).
        y: (N,D_y).

    Raises:
        ValueError: the two differ in N, or one is constant or not finite.
    """
    x, y = as_features("x", x), as_features("y", y)
    _check_same_images(x, y)
    x, y = _centered("x", x), _centered("y", y)
    cross = torch.linalg.matrix_norm(y.T @ x).square()
    own = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    return float(cross / own)


def effective_rank(features: Array) -> float:
    """Number of directions that features spread over: exp(entropy of singular values' shares).

    Of the column-centered features, in float64: from 1, all on one line (a collapse), to
    min(N-1, D), equal spread. Roy and Vetterli, The Effective Rank, EUSIPCO 2007.

    Args:
        features: (N,D), N at least 2.

    Raises:
        ValueError: the features are constant or not finite.
    """
    x = _centered("features", as_features("features", features))
    # Eigenvalues of the smaller Gram matrix: tens of times faster than singular values of x.
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def feature_deviation(features: Array) -> float:
    """Mean standard deviation of the features of unit-length rows, times √D, in [0,1].

    0 where every image has the same direction, near 1 where directions spread evenly. Chen, He,
    Exploring Simple Siamese Representation Learning, CVPR 2021, section 4.1.

    Args:
        features: (N,D), N at least 2.

    Raises:
        ValueError: fewer than two images, or features that are not finite.
    """
    features = as_features("features", features)
    if len(features) < 2 or not features.isfinite().all():
        raise ValueError(
            f"features of {len(features)} images, expected two or more, all finite; look for a "
            "diverged network"
        )
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    return float(rows.std(dim=0, correction=0).mean() * rows.shape[1] ** 0.5)


def _check_same_images(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise ValueError(
            f"got features of {len(x)} and of {len(y)} images, expected the same images in the "
            "same order"
        )


def _centered(name: str, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Columns with mean 0, all scaled by one factor to a largest entry of 1, in float64."""
    x = x.double()
    x = x - x.mean(dim=0)
    largest = x.abs().amax()
    if not largest.isfinite() or largest == 0:
        raise ValueError(
            f"{name}: every image has the same features, or one is not finite; expected features "
            "that differ: look for a collapsed or diverged network"
        )
    return x / largest
