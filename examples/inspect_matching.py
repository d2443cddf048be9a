"""Print which channels of the teacher went to which channels of the student, and at what cost.

    python examples/inspect_matching.py runs/resnet18                 # the last solve of a run
    python examples/inspect_matching.py --teacher resnet50 -a resnet18  # two networks, not trained

The cost of a pair is the mean squared distance of its channels' maps, each scaled to length one,
over the images: 0 for maps that are alike, 2 for unrelated ones, 4 for opposite ones. With the
recipe mgd-plus the channels of the student are those behind its 1×1 expansion.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Solve = tuple[NDArray[np.float64], NDArray[np.int64]]  # cost (C_s,C_t), assignment (C_s,G), -1 pads


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="directory of a run")
    parser.add_argument("--teacher", help="file, run or name of weights, in place of a run")
    parser.add_argument("-a", "--arch", default="resnet18", help="student beside --teacher")
    parser.add_argument("--rows", type=int, default=5, help="best pairs to show of each stage")
    options = parser.parse_args(argv)
    if (options.run is None) == (options.teacher is None):
        parser.error("expected the directory of a run, or --teacher")
    solves = of_run(options.run) if options.run else of_networks(options.teacher, options.arch)
    for stage, solve in solves.items():
        print("\n".join(table(stage, *solve, options.rows)))


def of_run(run: Path) -> dict[str, Solve]:
    """Stage -> its last solve, from the files in a run's matching/."""
    files = sorted((run / "matching").glob("epoch_*.npz"))
    if not files:
        raise SystemExit(f"{run}: no matching/epoch_*.npz; expected a run that matched a teacher")
    arrays: Mapping[str, NDArray[np.generic]] = np.load(files[-1], allow_pickle=False)
    stages = [name.removesuffix("/cost") for name in arrays if name.endswith("/cost")]
    return {s: (arrays[f"{s}/cost"], arrays[f"{s}/assignment"]) for s in stages}  # type: ignore[misc]


def of_networks(teacher: str, arch: str, size: int = 64) -> dict[str, Solve]:
    """Stage -> the matching in groups of two networks, on 256 embedded images."""
    from mgd_ssl import create_backbone, load_backbone, pair_networks
    from mgd_ssl.data import eval_transform, make_loader, open_source, subset

    network, report = load_backbone(teacher)
    pair = pair_networks(network, create_backbone(arch), size, adapter="batch")
    loader = make_loader(subset(open_source(None, "train"), 256), size, 64, train=False)
    normalize = eval_transform(report.mean, report.std)
    solved = pair.solve([normalize(batch.images) for batch in loader])
    return {s.name: (s.cost.numpy(), s.assignment.numpy()) for s in solved}


def table(stage: str, cost: NDArray[np.float64], groups: NDArray[np.int64], rows: int) -> list[str]:
    """Lines about a stage: its total, and the groups of least mean cost."""
    members = [[int(t) for t in group if t >= 0] for group in groups]
    means = [float(cost[s, m].mean()) if m else np.inf for s, m in enumerate(members)]
    total = sum(float(cost[s, m].sum()) for s, m in enumerate(members))
    sizes = sorted({len(m) for m in members})
    lines = [
        f"{stage}: {cost.shape[1]} teacher channels to {cost.shape[0]} student channels, "
        f"{' or '.join(map(str, sizes))} each; total cost {total:.2f}",
        f"  {'student':>7}  {'cost':>5}  teacher",
    ]
    for s in np.argsort(means, kind="stable")[:rows]:
        lines.append(f"  {s:7}  {means[s]:5.2f}  {' '.join(map(str, members[s]))}")
    return lines


if __name__ == "__main__":
    main()
