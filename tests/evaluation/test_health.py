"""Label-free figures against plain float64 formulas and known extremes."""

import math

import pytest
import torch
from torch import Tensor

from mgd_ssl.evaluation.health import effective_rank, linear_cka, neighbor_overlap


def rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(rows(d, d, 9))[0]


def overlap_by_sets(teacher: Tensor, student: Tensor, k: int) -> float:
    sets = []
    for x in (teacher.double(), student.double()):
        x = x / x.norm(dim=1, keepdim=True)
        cosines = (x @ x.T).fill_diagonal_(-2)
        sets.append([set(line) for line in cosines.argsort(descending=True)[:, :k].tolist()])
    shares = [len(a & b) / k for a, b in zip(*sets, strict=True)]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("k", [1, 5, 49])
def test_overlap_agrees_with_sets(k: int) -> None:
    teacher = rows(50, 8, 1)
    student = torch.cat([teacher[:, :4], rows(50, 3, 2)], dim=1)
    found = neighbor_overlap(teacher, student, k)
    assert found == pytest.approx(overlap_by_sets(teacher, student, k))
    assert (0 < found < 1) if k < 49 else found == 1


def test_overlap_of_a_network_with_itself_turned_is_one() -> None:
    x = rows(50, 8, 1)
    assert neighbor_overlap(x, 3 * x @ rotation(8), 5) == pytest.approx(1.0, abs=0.01)


def test_cka_agrees_with_the_formula_of_kernels() -> None:
    x, y = rows(40, 6, 1), rows(40, 9, 2) + 2
    centring = torch.eye(40, dtype=torch.float64) - 1 / 40
    k, m = (centring @ z.double() @ z.double().T @ centring for z in (x, y))
    expected = (k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt()
    assert linear_cka(x, y) == pytest.approx(float(expected))


def test_cka_does_not_change_with_rotation_scale_and_shift() -> None:
    x = rows(40, 6, 1)
    assert linear_cka(x, 7 * x @ rotation(6) + 5) == pytest.approx(1.0)


def test_cka_of_orthogonal_features_is_zero() -> None:
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert linear_cka(x, y) == pytest.approx(0.0)


def test_effective_rank_agrees_with_the_entropy_of_singular_values() -> None:
    x = rows(60, 7, 1) * torch.logspace(0, -2, 7)
    centered = x.double() - x.double().mean(dim=0)
    values = torch.linalg.eigvalsh(centered.T @ centered)
    shares = [v / sum(values.sqrt().tolist()) for v in values.sqrt().tolist()]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert effective_rank(x) == pytest.approx(expected, rel=1e-6)


def test_effective_rank_of_fewer_images_than_features() -> None:
    x = rows(5, 40, 1)
    values = torch.linalg.svdvals((x - x.mean(dim=0)).double())
    shares = values[:4] / values[:4].sum()
    assert effective_rank(x) == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-5)


def test_effective_rank_at_its_extremes() -> None:
    line = torch.arange(10.0)[:, None] * torch.tensor([[1.0, 2.0, -1.0]]) + 4
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-5)
    equal = torch.cat([torch.eye(4), -torch.eye(4)])
    assert effective_rank(equal) == pytest.approx(4.0)


def test_collapsed_and_unpaired_features_are_refused() -> None:
    with pytest.raises(ValueError, match="collapsed"):
        effective_rank(torch.full((5, 3), 0.1))
    with pytest.raises(ValueError, match="y: every image has the same"):
        linear_cka(rows(5, 3, 1), torch.ones(5, 2))
    with pytest.raises(ValueError, match="not finite"):
        effective_rank(torch.tensor([[1.0], [math.nan]]))
