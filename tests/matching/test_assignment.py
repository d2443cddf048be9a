import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mgd_ssl.matching import assign_channels, assignment, channel_cost, total_cost

SHAPES = [(1, 1), (1, 5), (3, 3), (4, 8), (3, 7), (6, 20), (8, 32), (7, 9), (24, 100), (40, 41)]


def random_cost(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).double() * 4


def scipy_optimum(cost, mode):
    """Least total by a dense solver on the tiled problem.

    Not divisible, each student channel has ⌊k⌋ rows that must be filled and one that may be: the
    square is made up with C_s − (C_t mod C_s) dummy teacher channels that only the latter may take.
    """
    cost = cost.numpy()
    c_s, c_t = cost.shape
    whole, rest = divmod(c_t, c_s)
    if mode == "shave":
        cost, rest = cost[:, : c_t - rest], 0
    tiled = cost if mode == "sparse" else np.tile(cost, (whole, 1))
    if mode == "balanced" and rest:
        dummies = np.zeros((len(tiled) + c_s, c_s - rest))
        dummies[: len(tiled)] = 1e6
        tiled = np.hstack([np.vstack([tiled, cost]), dummies])
    return tiled[linear_sum_assignment(tiled)].sum()


def members(groups):
    return groups[groups >= 0].tolist()


def test_hand_figures(hand):
    cost = channel_cost(hand.student, hand.teacher)
    groups, sparse = assign_channels(cost), assign_channels(cost, "sparse")
    assert groups.tolist() == hand.groups.tolist()
    assert total_cost(cost, groups) == pytest.approx(2.857823, abs=1e-6)
    assert sparse.tolist() == hand.sparse.tolist()
    assert total_cost(cost, sparse) == pytest.approx(0.122734, abs=1e-6)


@pytest.mark.parametrize("mode", ["balanced", "shave", "sparse"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_reaches_the_optimum_of_a_dense_solver(shape, mode, seed):
    cost = random_cost(shape, seed)
    got = total_cost(cost, assign_channels(cost, mode))
    assert got == pytest.approx(scipy_optimum(cost, mode), abs=1e-9)


@pytest.mark.parametrize("mode", ["balanced", "sparse"])
@pytest.mark.parametrize("promising", [1, 2])
@pytest.mark.parametrize("kind", ["product", "sum", "few values", "dead students"])
def test_a_poor_first_choice_of_pairs_is_found_out(kind, promising, mode, monkeypatch):
    monkeypatch.setattr(assignment, "PROMISING", promising)
    cost = random_cost((24, 100))
    if kind == "product":
        cost = cost[:, :1] * cost[:1]
    elif kind == "sum":
        cost = cost[:, :1] + cost[:1] + 1e-3 * cost
    elif kind == "few values":
        cost = cost.round()
    else:
        cost[:9] = 2
    got = total_cost(cost, assign_channels(cost, mode))
    assert got == pytest.approx(scipy_optimum(cost, mode), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_scale_and_sign_of_the_costs_do_not_matter(scale, shift):
    cost = random_cost((6, 20))
    groups = assign_channels(cost)
    assert assign_channels((cost + shift) * scale).tolist() == groups.tolist()


@pytest.mark.parametrize("scale", [1e-320, 7e307])
def test_costs_of_any_finite_size_are_solved(scale):
    cost = random_cost((6, 20)).sub(2).mul(8).round().div(8)  # few values, exact at any scale
    largest = assign_channels(cost * scale)
    assert total_cost(cost, largest) == pytest.approx(scipy_optimum(cost, "balanced"))


def test_one_outlier_does_not_hide_the_rest():
    cost = random_cost((6, 12))
    cost[0, 0] = 1e3
    groups = assign_channels(cost)
    assert total_cost(cost, groups) == pytest.approx(scipy_optimum(cost, "balanced"), abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_balanced_drops_none_and_gives_each_the_floor_or_the_ceiling(shape):
    c_s, c_t = shape
    groups = assign_channels(random_cost(shape), "balanced")
    assert sorted(members(groups)) == list(range(c_t))
    sizes = (groups >= 0).sum(1)
    assert sizes.min() == c_t // c_s and sizes.max() == -(-c_t // c_s) == groups.shape[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_shave_drops_the_last_by_index(shape):
    c_s, c_t = shape
    groups = assign_channels(random_cost(shape), "shave")
    assert sorted(members(groups)) == list(range(c_t - c_t % c_s))
    assert groups.shape == (c_s, c_t // c_s)


@pytest.mark.parametrize("shape", SHAPES)
def test_sparse_gives_each_one_of_its_own(shape):
    groups = assign_channels(random_cost(shape), "sparse")
    assert groups.shape == (shape[0], 1) and (groups >= 0).all()
    assert groups.unique().numel() == shape[0]


def test_rows_are_sorted_and_pads_come_last():
    groups = assign_channels(random_cost((24, 100)))
    as_last = groups.where(groups >= 0, 1000)
    assert torch.equal(as_last, as_last.sort(1).values)
    assert groups.dtype == torch.int64 and (groups >= 0).sum() == 100


def test_costs_that_are_all_equal_are_solved():
    groups = assign_channels(torch.full((4, 10), 2.0))
    assert sorted(members(groups)) == list(range(10))


def test_single_precision_costs_are_accepted():
    cost = random_cost((4, 8))
    assert assign_channels(cost.float()).tolist() == assign_channels(cost).tolist()


@pytest.mark.parametrize("shape", [(9, 8), (0, 4)])
def test_a_wider_student_is_refused(shape):
    with pytest.raises(ValueError, match=r"student .* teacher channels"):
        assign_channels(torch.zeros(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_are_refused(bad):
    cost = random_cost((3, 6))
    cost[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        assign_channels(cost)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode 'tiled', expected 'balanced'"):
        assign_channels(random_cost((3, 6)), "tiled")


def test_a_status_other_than_optimal_raises():
    arcs = np.array([0]), np.array([1]), np.array([0])
    with pytest.raises(RuntimeError, match="INFEASIBLE"):
        assignment._min_cost_flow(*arcs, supply=np.array([2, -2]))  # one arc of capacity 1


def test_prices_that_do_not_settle_raise_instead_of_going_on_for_ever():
    # two nodes, an arc of cost 1 there that carries flow and one of -2 back: a negative cycle
    tails, heads, costs = np.array([0, 1]), np.array([1, 0]), np.array([1, -2])
    with pytest.raises(RuntimeError, match="prices of 2 nodes do not settle"):
        assignment._prices(tails, heads, costs, np.array([False, False]))
