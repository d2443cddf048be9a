"""Which teacher channels each student channel learns from: a transportation problem.

The only file that imports OR-Tools.
Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from ortools.graph.python import min_cost_flow
from torch import Tensor

from mgd_ssl.choices import AssignmentMode

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PROMISING = 8  # candidate pairs per channel, as a multiple of its group size


def assign_channels(
    cost: Float[Tensor, "c_s c_t"], mode: AssignmentMode | str = "balanced"
) -> Int64[Tensor, "c_s g"]:
    """Give every student channel its group of teacher channels, at the least total cost.

    Args:
        cost: (C_s, C_t), any finite values, C_s ≤ C_t.
        mode: With k = C_t / C_s, ``balanced`` gives every teacher channel to one student channel
            and ⌊k⌋ or ⌈k⌉ of them to each; ``shave`` gives ⌊k⌋ to each and drops the last
            C_t mod C_s teacher channels, as the first implementation did; ``sparse`` gives each
            student channel exactly one and leaves the rest unused.

    Returns:
        (C_s, G) on the cost's device: teacher channels, each row sorted, -1 where a row is shorter.

    Raises:
        ValueError: The student is wider than the teacher, a cost is not finite, or the mode is
            unknown.
        RuntimeError: The solver reports anything but an optimal solution.
    """
    c_s, c_t = cost.shape
    if not 0 < c_s <= c_t:
        raise ValueError(
            f"assignment: got {c_s} student and {c_t} teacher channels, expected at least one and "
            "no more than the teacher's; the student is wider than the teacher at this stage: "
            "ignore it or choose a narrower student"
        )
    if mode not in ("balanced", "shave", "sparse"):
        raise ValueError(f"assignment: got mode {mode!r}, expected 'balanced', 'shave' or 'sparse'")
    values = cost.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(values).all():
        raise ValueError("assignment: cost holds NaN or infinity, expected finite; check features")
    if mode == "shave":
        values = values[:, : c_t - c_t % c_s]
    owner = _solve(_integer_costs(values), sparse=mode == "sparse")
    return torch.from_numpy(_rows(owner, c_s)).to(cost.device)


def share_channels(
    cost: Float[Tensor, "c_s c_t"], mode: AssignmentMode | str = "balanced"
) -> Int64[Tensor, "c_s g"]:
    """`assign_channels`, and for a student wider than its teacher one teacher channel to each row.

    There every teacher channel serves ⌊C_s / C_t⌋ or ⌈C_s / C_t⌉ student channels, at the least
    total cost.

    Args:
        cost: (C_s, C_t), any finite values.
        mode: of `assign_channels`; a wider student has no other than its own.
    """
    c_s, c_t = cost.shape
    if c_s <= c_t:
        return assign_channels(cost, mode)
    students = assign_channels(cost.T, "balanced")  # (C_t, G), -1 pads
    owner = torch.arange(c_t, device=students.device).unsqueeze(1).expand_as(students)
    shared = students.new_empty(c_s, 1)
    shared[students[students >= 0], 0] = owner[students >= 0]
    return shared


def matched_pairs(assignment: Int64[Tensor, "c_s g"], teacher_channels: int) -> Tensor:
    """(C_s,C_t) bool: which channels are matched with each other."""
    pairs = assignment.new_zeros(len(assignment), teacher_channels, dtype=torch.bool)
    rows, places = (assignment >= 0).nonzero(as_tuple=True)
    pairs[rows, assignment[rows, places]] = True
    return pairs


def total_cost(cost: Float[Tensor, "c_s c_t"], assignment: Int64[Tensor, "c_s g"]) -> float:
    """Sum of the costs of the assigned pairs, in float64."""
    pairs = cost.double().gather(1, assignment.clamp_min(0))
    return float(pairs.where(assignment >= 0, 0).sum())


def _integer_costs(cost: npt.NDArray[np.float64]) -> Ints:
    """Costs from 0 to a bound that keeps the solver's (nodes × cost) and the total below 2^63."""
    _, exponent = np.frexp(np.abs(cost).max())
    cost = np.ldexp(cost, -exponent)  # exact, and keeps the largest difference finite and not 0
    nodes = sum(cost.shape) + 2
    bound = min(2**42, 2**60 // nodes**2)
    low, high = cost.min(), cost.max()
    scale = bound / (high - low) if high > low else 0.0
    integers: Ints = np.rint((cost - low) * scale).astype(np.int64)
    return integers


def _solve(cost: Ints, sparse: bool) -> Ints:
    """Owner (student channel, or -1) of every teacher channel.

    Solved over the few pairs that look promising, then proven over all: where the prices of that
    solution show no other pair that could lower the total, it is the optimum of the whole. Pairs
    that could are taken in and the problem is solved again, over all pairs where they are many.
    """
    c_s, c_t = cost.shape
    pairs = _promising(cost)
    while True:
        network = _network(cost, pairs, sparse)
        used = _min_cost_flow(*network, supply=_supply(c_s, c_t, sparse))
        if pairs.all():
            break
        missed = _improving(cost, _prices(*network, used)) & ~pairs
        if not missed.any():
            break
        pairs = pairs | missed if missed.sum() < pairs.sum() else np.ones_like(pairs)
    student, teacher = (index[used[: pairs.sum()]] for index in np.nonzero(pairs))
    owner = np.full(c_t, -1)
    owner[teacher] = student
    return owner


def _promising(cost: Ints) -> Bools:
    """Pairs far below their row's and column's mean, and enough for every mode to be feasible."""
    c_s, c_t = cost.shape
    centered = torch.from_numpy(cost - cost.mean(0) - cost.mean(1, keepdims=True))
    pairs = torch.zeros(c_s, c_t, dtype=torch.bool)
    for dim, count in ((0, PROMISING), (1, PROMISING * (c_t // c_s))):
        count = min(count, cost.shape[dim])
        pairs.scatter_(dim, centered.topk(count, dim, largest=False, sorted=False)[1], True)
    teacher = torch.arange(c_t)
    pairs[teacher % c_s, teacher] = True
    return pairs.numpy()


def _network(cost: Ints, pairs: Bools, sparse: bool) -> tuple[Ints, Ints, Ints]:
    """Tails, heads and costs of the arcs, each of capacity 1: the pairs, then the slack's.

    Student channels are nodes 0 to C_s − 1, teacher channels the next C_t, and one more node
    takes up the slack: it hands C_t mod C_s student channels one unit more, or (sparse)
    collects what arrives at any of the teacher channels.
    """
    c_s, c_t = cost.shape
    slack = c_s + c_t
    student, teacher = np.nonzero(pairs)
    if sparse:
        tails, heads = np.arange(c_s, slack), np.full(c_t, slack)
    else:
        tails, heads = np.full(c_s, slack), np.arange(c_s)
    costs = np.r_[cost[pairs], np.zeros(len(tails), np.int64)]
    return np.r_[student, tails], np.r_[c_s + teacher, heads], costs


def _supply(c_s: int, c_t: int, sparse: bool) -> Ints:
    """Units that each node of `_network` hands out; negative where it takes them in."""
    student, teacher, slack = (1, 0, -c_s) if sparse else (c_t // c_s, -1, c_t % c_s)
    return np.repeat([student, teacher, slack], [c_s, c_t, 1])


def _min_cost_flow(tails: Ints, heads: Ints, costs: Ints, supply: Ints) -> Bools:
    """Which arcs an optimal flow uses."""
    flow = min_cost_flow.SimpleMinCostFlow()
    arcs = flow.add_arcs_with_capacity_and_unit_cost(tails, heads, np.ones_like(tails), costs)
    flow.set_nodes_supplies(np.arange(len(supply)), supply)
    status = flow.solve()
    if status != flow.OPTIMAL:
        raise RuntimeError(f"assignment: the solver ended with {status}, expected OPTIMAL")
    used: Bools = flow.flows(arcs) > 0
    return used


def _prices(tails: Ints, heads: Ints, costs: Ints, used: Bools) -> Ints:
    """Node prices that leave no arc, and no used arc backwards, with a negative reduced cost.

    They are the shortest distances in the residual network (Bellman–Ford), which has no negative
    cycle since the flow is optimal over these arcs: a path of the shortest length has each node
    once, so that as many rounds as there are nodes suffice.

    Raises:
        RuntimeError: they do not; the flow is not optimal.
    """
    source, target = np.where(used, heads, tails), np.where(used, tails, heads)
    length = np.where(used, -costs, costs)
    prices = np.zeros(tails.max(initial=heads.max()) + 1, np.int64)
    for _ in range(len(prices) + 1):
        nearer = prices.copy()
        np.minimum.at(nearer, target, prices[source] + length)
        if (nearer == prices).all():
            return prices
        prices = nearer
    raise RuntimeError(
        f"assignment: the prices of {len(prices)} nodes do not settle, so the solver's flow does "
        "not have the least cost, expected one that has; another version of OR-Tools may find it"
    )


def _improving(cost: Ints, prices: Ints) -> Bools:
    """Pairs with a negative reduced cost: taking one in could lower the total."""
    c_s, c_t = cost.shape
    improving: Bools = cost + prices[:c_s, None] < prices[c_s : c_s + c_t]
    return improving


def _rows(owner: Ints, c_s: int) -> Ints:
    """(C_t,) owners → (C_s, G) sorted members, -1 where a row is shorter."""
    teacher = np.argsort(owner, kind="stable")  # grouped by owner, ascending within
    teacher = teacher[owner[teacher] >= 0]
    sizes = np.bincount(owner[teacher], minlength=c_s)
    rows = np.full((c_s, sizes.max()), -1)
    rows[np.arange(rows.shape[1]) < sizes[:, None]] = teacher
    return rows
