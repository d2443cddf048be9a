"""Which teacher channels each student channel learns from: a transportation problem.

The only file that imports OR-Tools.
Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from ortools.graph.python import min_cost_flow
from torch import Tensor

AssignmentMode = Literal["balanced", "shave", "sparse"]
Ints = npt.NDArray[np.int64]


def assign_channels(
    cost: Float[Tensor, "c_s c_t"], mode: AssignmentMode = "balanced"
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
    if not torch.isfinite(cost).all():
        raise ValueError("assignment: cost holds NaN or infinity, expected finite; check features")
    if mode not in ("balanced", "shave", "sparse"):
        raise ValueError(f"assignment: got mode {mode!r}, expected 'balanced', 'shave' or 'sparse'")
    values = cost.detach().to("cpu", torch.float64).numpy()
    if mode == "shave":
        values = values[:, : c_t - c_t % c_s]
    owner = _solve(_integer_costs(values), sparse=mode == "sparse")
    return torch.from_numpy(_rows(owner, c_s)).to(cost.device)


def total_cost(cost: Float[Tensor, "c_s c_t"], assignment: Int64[Tensor, "c_s g"]) -> float:
    """Sum of the costs of the assigned pairs, in float64."""
    pairs = cost.double().gather(1, assignment.clamp_min(0))
    return float(pairs.where(assignment >= 0, 0).sum())


def _integer_costs(cost: npt.NDArray[np.float64]) -> Ints:
    """Costs from 0 to a bound that keeps the solver's (nodes × cost) and the total below 2^63."""
    nodes = sum(cost.shape) + 2
    bound = min(2**42, 2**60 // nodes**2)
    low, high = cost.min(), cost.max()
    scale = bound / (high - low) if high > low else 0.0
    integers: Ints = np.rint((cost - low) * scale).astype(np.int64)
    return integers


def _solve(cost: Ints, sparse: bool) -> Ints:
    """Owner (student channel, or -1) of every teacher channel, by min-cost flow.

    Student channels are nodes 0 to C_s − 1, teacher channels the next C_t, and one more node
    takes up the slack: it hands C_t mod C_s student channels one unit more, or (sparse)
    collects what arrives at any of the teacher channels.
    """
    c_s, c_t = cost.shape
    student, teacher, slack = np.arange(c_s), c_s + np.arange(c_t), c_s + c_t
    flow = min_cost_flow.SimpleMinCostFlow()
    arcs = flow.add_arcs_with_capacity_and_unit_cost(
        np.repeat(student, c_t), np.tile(teacher, c_s), np.ones(cost.size, np.int64), cost.ravel()
    )
    if sparse:
        supply = np.r_[np.ones(c_s, np.int64), np.zeros(c_t, np.int64), -c_s]
        tails, heads = teacher, np.full(c_t, slack)
    else:
        supply = np.r_[np.full(c_s, c_t // c_s), np.full(c_t, -1), c_t % c_s]
        tails, heads = np.full(c_s, slack), student
    flow.add_arcs_with_capacity_and_unit_cost(
        tails, heads, np.ones(len(tails), np.int64), np.zeros(len(tails), np.int64)
    )
    flow.set_nodes_supplies(np.arange(c_s + c_t + 1), supply)
    status = flow.solve()
    if status != flow.OPTIMAL:
        raise RuntimeError(f"assignment: the solver ended with {status}, expected OPTIMAL")
    used = np.flatnonzero(flow.flows(arcs))
    owner = np.full(c_t, -1)
    owner[used % c_t] = used // c_t
    return owner


def _rows(owner: Ints, c_s: int) -> Ints:
    """(C_t,) owners → (C_s, G) sorted members, -1 where a row is shorter."""
    teacher = np.argsort(owner, kind="stable")  # grouped by owner, ascending within
    teacher = teacher[owner[teacher] >= 0]
    sizes = np.bincount(owner[teacher], minlength=c_s)
    rows = np.full((c_s, sizes.max()), -1)
    rows[np.arange(rows.shape[1]) < sizes[:, None]] = teacher
    return rows
