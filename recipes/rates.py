"""Is the learning rate that pretrain.py finds near the best? The same run at multiples of it.

    python recipes/rates.py FOLDER --epochs 2 7 -- OPTIONS OF pretrain.py

FOLDER has labeled train and val parts. Each length is trained at the rate that is found for it,
then at half and twice of it; decay and warm-up follow as for any rate. Regret is what the found
rate lacks to the best of them. A run whose results exist is not repeated.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from tables import (
    ACCURACIES,
    Row,
    evaluate,
    last_row,
    mean_and_spread,
    print_and_write,
    run_command,
    run_rows,
    split_extra,
)

from mgd_ssl.commands import pretrain

FOUND, OTHERS = 1.0, (0.5, 2.0)  # multiples of the rate that is found


def main() -> None:
    """Run what is missing, then write the table."""
    own, given = split_extra(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/rates"))
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 7])
    parser.add_argument("--factors", type=float, nargs="+", default=OTHERS)
    parser.add_argument("--size", default="64", help="side of the student's images, in pixels")
    parser.add_argument("--images", type=int, default=10**9, help="most of the bank")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-j", "--workers", default="0")
    options = parser.parse_args(own)
    factors, seeds = (FOUND, *options.factors), tuple(range(options.seeds))
    rows = [Row(name(n, f), (str(n), str(f)), seeds) for n in options.epochs for f in factors]
    done = run_rows(rows, lambda row, seed: run(row, seed, given, options), options.out)
    head = ["epochs", "steps", "found rate", *(f"x{factor:g}" for factor in factors), "regret"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for epochs in options.epochs:
        lines.append(line(epochs, [done[name(epochs, factor)] for factor in factors]))
    print_and_write("\n".join([*lines, ""]), options.out / "table.md")


def name(epochs: int, factor: float) -> str:
    """Of a run's directory, without its seed."""
    return f"{epochs} epochs x{factor:g}"


def run(row: Row, seed: int, given: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train a student at a multiple of the found rate, and measure it."""
    epochs, factor = int(row.options[0]), float(row.options[1])
    rate = [] if factor == FOUND else ["--lr", str(factor * found_rate(epochs, options.out))]
    out = options.out / f"run {row.name}-{seed}"
    argv = [str(options.data), *given, *rate, "--epochs", str(epochs), "--size", options.size]
    argv += ["--knn-every", "0", "--health-every", "0", "-j", options.workers]
    run_command(pretrain.main, [*argv, "--seed", str(seed), "--out", str(out), "--resume"])
    part, more = options.out / f"{out.name}.part.json", ("-j", options.workers)
    student, size = out / "student.safetensors", int(options.size)
    figures = evaluate(student, options.data, part, options.images, size, (20,), more)
    return figures | {"lr": found_rate(epochs, options.out), "steps": last_row(out)["step"]}


def found_rate(epochs: int, folder: Path) -> float:
    """The rate that the first run of this length found."""
    metrics = folder / f"run {name(epochs, FOUND)}-0" / "metrics.jsonl"
    with metrics.open(encoding="utf-8") as lines:
        return float(json.loads(next(lines))["found/lr"])


def line(epochs: int, rates: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """A row of the table: accuracy at each rate, the found one first, and its regret.

    Args:
        epochs: of the runs.
        rates: figures of the runs at each rate, a run for each seed.
    """
    figures = [[[run[key] for run in runs] for key in ACCURACIES] for runs in rates]
    cells = [str(epochs), str(rates[0][0]["steps"]), f"{rates[0][0]['lr']:g}"]
    cells += [" / ".join(map(mean_and_spread, of)) for of in figures]
    means = [[mean(values) for values in of] for of in figures]
    regrets = [max(of) - of[0] for of in zip(*means, strict=True)]
    cells.append(" / ".join(f"{regret:.1f}" for regret in regrets))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
