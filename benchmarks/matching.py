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
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ortools.graph.python import linear_sum_assignment
from scipy.optimize import linear_sum_assignment as scipy_assignment
from torch import Tensor

from mgd_ssl.matching import CostAccumulator, assign_channels, matching_loss, total_cost

STAGES = [(64, 256, 56), (128, 512, 28), (256, 1024, 14), (512, 2048, 7)]
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["loss", "cost", "assignment"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", help="internal: measure one version's peak memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(extra_memory(options.memory))
        return
    print(f"torch {torch.__version__}, {options.threads} threads, {options.repeats} repeats")
    for part in options.parts:
        {"loss": loss, "cost": cost, "assignment": assignment}[part](options.repeats)


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object], n: int) -> None:
    """Print the median and the spread of plain / ours, measured in turn after a warm-up."""
    plain(), ours()
    times = [(clock(plain), clock(ours)) for _ in range(n)]
    ratios = sorted(a / b for a, b in times)
    a, b = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    middle = statistics.median(ratios)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{name:<28} plain {a:8.1f} ms  ours {b:8.1f} ms  {middle:6.2f} times ({spread})")


def clock(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


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


def run_loss(version: Callable[..., Tensor], stages: list[tuple[Tensor, ...]]) -> None:
    for student, *rest in stages:
        student.grad = None
        version(student, *rest).backward()


def loss(repeats: int) -> None:
    stages = inputs()
    for stage in stages:
        torch.testing.assert_close(plain_loss(*stage), matching_loss(*stage), rtol=1e-4, atol=0)
    versions = [lambda v=v: run_loss(v, stages) for v in (plain_loss, matching_loss)]
    compare("stage loss, four stages", *versions, repeats)
    command = [sys.executable, __file__, "--threads", str(torch.get_num_threads()), "--memory"]
    plain, ours = (
        float(subprocess.run([*command, name], capture_output=True, check=True).stdout)
        for name in ("plain", "ours")
    )
    print(f"{'extra memory at the peak':<28} plain {plain:8.1f} MB  ours {ours:8.1f} MB")


def extra_memory(version: str) -> float:
    """Peak resident memory beyond the inputs, in MB, of one pass in this fresh process (Linux)."""
    stages, function = inputs(), {"plain": plain_loss, "ours": matching_loss}[version]
    for student, teacher, *rest in stages:  # libraries that load at the first call do not count
        function(student[:1].detach().requires_grad_(), teacher[:1], *rest).backward()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmHWM")
    run_loss(function, stages)
    return resident("VmHWM") - before


def resident(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def cost(repeats: int) -> None:
    for student, teacher, *_ in inputs():
        s, t = student.detach(), teacher

        def plain(s: Tensor = s, t: Tensor = t) -> Tensor:
            a = torch.nn.functional.normalize(s.flatten(2), dim=2, eps=1e-12)
            b = torch.nn.functional.normalize(t.flatten(2), dim=2, eps=1e-12)
            return (2 - 2 * torch.bmm(a, b.transpose(1, 2))).sum(0).double()

        def ours(s: Tensor = s, t: Tensor = t) -> Tensor:
            accumulator = CostAccumulator(s.shape[1], t.shape[1])
            accumulator.update(s, t)
            return accumulator.result()

        torch.testing.assert_close(plain() / BATCH, ours(), rtol=0, atol=1e-5)
        compare(f"cost, {s.shape[1]} -> {t.shape[1]}", plain, ours, repeats)


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
