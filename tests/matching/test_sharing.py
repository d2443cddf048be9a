"""A student wider than its teacher: every teacher channel serves several, at the least cost."""

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mgd_ssl.matching import assign_channels, share_channels


@pytest.mark.parametrize(("c_s", "c_t"), [(6, 3), (7, 3), (5, 4), (9, 1)])
def test_the_shares_are_even_and_of_the_least_cost(c_s: int, c_t: int) -> None:
    torch.manual_seed(c_s)
    cost = torch.rand(c_s, c_t, dtype=torch.float64)
    shared = share_channels(cost)
    assert shared.shape == (c_s, 1)
    counts = torch.bincount(shared[:, 0], minlength=c_t).tolist()
    assert {*counts} <= {c_s // c_t, -(-c_s // c_t)} and sum(counts) == c_s
    best = min(_least(cost, counts) for counts in _even(c_s, c_t))
    assert float(cost.gather(1, shared).sum()) == pytest.approx(best, abs=1e-6)


def _even(c_s: int, c_t: int) -> set[tuple[int, ...]]:
    whole, rest = divmod(c_s, c_t)
    return set(itertools.permutations([whole + 1] * rest + [whole] * (c_t - rest)))


def _least(cost: torch.Tensor, counts: tuple[int, ...]) -> float:
    """SciPy's assignment to as many copies of each teacher channel."""
    copies = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    wide = cost[:, copies].numpy()
    rows, columns = linear_sum_assignment(wide)
    return float(wide[rows, columns].sum())


def test_a_student_that_is_not_wider_is_assigned_as_ever() -> None:
    cost = torch.rand(3, 7, dtype=torch.float64)
    assert torch.equal(share_channels(cost, "shave"), assign_channels(cost, "shave"))
