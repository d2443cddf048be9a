"""The method against plain versions written from the formulas, in ratios of one run.

R50 -> R18 at 224 pixels: channels 256, 512, 1024, 2048 to 64, 128, 256, 512, sides 56, 28, 14, 7.

- stage loss: reduction by absolute max pooling and partial L2, forward and backward, all stages,
  batch 32. Plain: stacks and gathers group by group. Target: 10 times, half the extra memory.
- cost: statistics of one batch, a stage at a time. Plain: batched matrix products summed over
  images. Target: never slower, 3 times at 512 -> 2048.
- assignment: 512 -> 2048. Plain: the tiled square problem, a Python call an arc. Target: 6 times,
  and the optimum of SciPy.

    python benchmarks/matching.py [loss cost assignment] [--repeats 7] [--threads 2]
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from ortools.graph.python import linear_sum_assignment
from scipy.optimize import linear_sum_assignment as scipy_assignment
from timing import compare, describe, extra_memory
from torch import Tensor

from mgd_ssl.matching import CostAccumulator, assign_channels, matching_loss, total_cost

STAGES = [(64, 256, 56), (128, 512, 28), (256, 1024, 14), (512, 2048, 7)]
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["loss", "cost", "assignment"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", nargs=2, help="PART VERSION: print one version's memory only")
    options = parser.parse_args()
    if options.memory:
        torch.set_num_threads(options.threads)
        print(measure_memory(*options.memory))
        return
    describe(options.threads, options.repeats)
    for part in options.parts:
        {"loss": loss, "cost": cost, "assignment": assignment}[part](options.repeats)


def inputs() -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Student map, teacher map, assignment and margins of each stage."""
    torch.manual_seed(0)
    stages = []
    for c_s, c_t, side in STAGES:
        student = torch.randn(BATCH, c_s, side, side, requires_grad=True)
        teacher = torch.randn(BATCH, c_t, side, side)
        groups = torch.randperm(c_t).view(c_s, c_t // c_s).sort(1).values
        stages.append((student, teacher, groups, -torch.rand(c_t)))
    return stages


def plain_loss(student: Tensor, teacher: Tensor, groups: Tensor, margin: Tensor) -> Tensor:
    """Group by group: gather, absolute maximum, mean margin; then the formula."""
    targets, margins = [], []
    for group in groups:
        members = torch.stack([teacher[:, channel] for channel in group])
        place = members.abs().argmax(0, keepdim=True)
        targets.append(members.gather(0, place)[0])
        margins.append(margin[group].mean())
    target, bound = torch.stack(targets, 1), torch.stack(margins)[None, :, None, None]
    tau = torch.maximum(target, bound)
    active = ((student > tau) | (tau > 0)).float()
    return ((student - tau) ** 2 * active).sum()


def run_loss(version: Callable[..., Tensor], stages: Sequence[tuple[Tensor, ...]]) -> None:
    for student, *rest in stages:
        student.grad = None
        version(student, *rest).backward()


def loss(repeats: int) -> None:
    stages = inputs()
    for stage in stages:
        torch.testing.assert_close(plain_loss(*stage), matching_loss(*stage), rtol=1e-4, atol=0)
    plain, ours = (partial(run_loss, v, stages) for v in (plain_loss, matching_loss))
    compare("stage loss, four stages", plain, ours, repeats)
    print_memory("loss")


def memory(part: str, name: str) -> float:
    """Extra memory of one version of a part, in a fresh process."""
    command = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
    child = subprocess.run([*command, "--memory", part, name], capture_output=True, check=True)
    return float(child.stdout)


def measure_memory(part: str, name: str) -> float:
    """MB of one pass over all stages; libraries that load at the first call do not count."""
    stages = inputs()
    versions: dict[str, Callable[..., Tensor]]
    if part == "loss":
        versions, run = {"plain": plain_loss, "ours": matching_loss}, run_loss
    else:
        versions, run = {"plain": plain_cost, "ours": our_cost}, run_cost
    small = [(s[:1].detach().requires_grad_(), t[:1], *rest) for s, t, *rest in stages]
    run(versions[name], small)
    return extra_memory(lambda: run(versions[name], stages))


def print_memory(part: str) -> None:
    plain, ours = memory(part, "plain"), memory(part, "ours")
    name, ratio = f"{part}, extra peak memory", plain / ours
    print(f"{name:<28} plain {plain:8.1f} MB  ours {ours:8.1f} MB  {ratio:6.2f} times")


def plain_cost(student: Tensor, teacher: Tensor) -> Tensor:
    """Batched matrix products, an image's costs each, then their sum."""
    a = torch.nn.functional.normalize(student.flatten(2), dim=2, eps=1e-12)
    b = torch.nn.functional.normalize(teacher.flatten(2), dim=2, eps=1e-12)
    return (2 - 2 * torch.bmm(a, b.transpose(1, 2))).sum(0).double()


def our_cost(student: Tensor, teacher: Tensor) -> Tensor:
    accumulator = CostAccumulator(student.shape[1], teacher.shape[1])
    accumulator.update(student, teacher)
    return accumulator.result()


def run_cost(version: Callable[..., Tensor], stages: Sequence[tuple[Tensor, ...]]) -> None:
    for student, teacher, *_ in stages:
        version(student.detach(), teacher)


def cost(repeats: int) -> None:
    for stage in inputs():
        student, teacher = stage[0].detach(), stage[1]
        plain, ours = (partial(v, student, teacher) for v in (plain_cost, our_cost))
        torch.testing.assert_close(plain() / BATCH, ours(), rtol=0, atol=1e-5)
        compare(f"cost, {student.shape[1]} -> {teacher.shape[1]}", plain, ours, repeats)
    print_memory("cost")


def assignment(repeats: int) -> None:
    matrix = torch.rand(512, 2048, dtype=torch.float64) * 4
    rows, columns = scipy_assignment(np.tile(matrix.numpy(), (4, 1)))
    best = float(np.tile(matrix.numpy(), (4, 1))[rows, columns].sum())
    found = float(total_cost(matrix, assign_channels(matrix)))
    print(f"{'optimum, 512 -> 2048':<28} SciPy {best:.9f}  ours {found:.9f}")
    integers = (matrix * 1e5).long().repeat(4, 1).tolist()

    def plain() -> None:
        solver = linear_sum_assignment.SimpleLinearSumAssignment()
        for row, costs in enumerate(integers):
            for column, value in enumerate(costs):
                solver.add_arc_with_cost(row, column, value)
        assert solver.solve() == solver.OPTIMAL

    compare("assignment, 512 -> 2048", plain, lambda: assign_channels(matrix), min(repeats, 5))


if __name__ == "__main__":
    main()
