"""The recommended recipe beside every other objective, in docs/results_earlier.md.

    python recipes/objectives.py FOLDER_OF_IDX_FILES TEACHER

FOLDER holds Fashion-MNIST's four IDX files, TEACHER is any checkpoint that is ahead of the student.
Every row has the same student, images, views, epochs and batch, and a learning rate of its own:
the best of those that ``--rates 0.3 1.0`` tried with one seed. A run whose results exist is not
repeated, so that the recipe may be stopped and started.
"""

import argparse
from pathlib import Path
from typing import Any

from fashion_mnist import DECAY, NETWORK, VIEWS, queue
from tables import ACCURACIES, Row, evaluate, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import pretrain

KS = (20,)
# Method, its learning rate, and what it is told beside them.
ALONE: dict[str, tuple[str, ...]] = {
    "alone (moco)": ("moco", "0.06"),
    "alone (simsiam)": ("simsiam", "0.3"),
}
DISTILLED: dict[str, tuple[str, ...]] = {
    "mgd, 2021": ("mgd", "0.3", "--mgd-loss-factor", "100"),
    "simreg": ("simreg", "1.0"),
    "simreg, linear head": ("simreg", "1.0", "--regression-head", "linear"),
    "seed": ("seed", "0.3"),
    "compress": ("compress", "0.3"),
    "disco": ("disco", "0.3"),
    "simsiam + matching": ("simsiam", "0.3", "--mgd-start", "0.3"),
    "mgd-plus": ("mgd-plus", "1.0", "--mgd-start", "0.3"),
}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--width", default="0.125", help="of the student")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", help="run these rows alone")
    parser.add_argument("--rates", nargs="+", help="try these learning rates, with one seed")
    options = parser.parse_args()
    table = [r for r in rows(options) if not options.rows or r.name.split(" @")[0] in options.rows]
    teacher = [Row("teacher", ())]
    done = run_rows(
        teacher, lambda row, _: measure(row.name, options.teacher, options), options.out
    )
    done |= run_rows(table, lambda row, seed: train(row, seed, options), options.out)
    text = markdown(done, ACCURACIES, of="teacher")
    print_and_write(text, options.out / f"{'rates' if options.rates else 'table'}.md")


def rows(options: argparse.Namespace) -> list[Row]:
    """A row an objective, or a row for each of its learning rates."""
    given = ("--teacher", str(options.teacher))
    found = []
    for name, (method, rate, *more) in (ALONE | DISTILLED).items():
        source = given if name in DISTILLED else ()
        told = (*source, "--method", method, "--optimizer", "sgd", *more)
        if options.rates:
            found += [Row(f"{name} @{r}", (*told, "--lr", r)) for r in options.rates]
        else:  # the slowest rows, of heads as wide as 2048, have one seed
            seeds = 1 if method in ("simsiam", "disco") else options.seeds
            found.append(Row(name, (*told, "--lr", rate), tuple(range(seeds))))
    return found


def train(row: Row, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one student and measure it."""
    out = options.out / f"{row.name}-{seed}"
    arguments = [str(options.data), "--limit", str(options.images), "--size", "32", "-b", "128"]
    arguments += ["--epochs", str(options.epochs), "--knn-every", "0", "--health-every", "0"]
    arguments += ["--cos-per-epoch"]  # as when the table was measured
    method = row.options[row.options.index("--method") + 1]
    arguments += [*NETWORK, "--width", options.width, *DECAY, *queue(method), *VIEWS]
    arguments += ["--seed", str(seed), "--out", str(out), "--resume"]
    run_command(pretrain.main, [*arguments, *row.options])
    return measure(out.name, out / "student.safetensors", options)


def measure(name: str, checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """kNN and linear accuracy over all test images."""
    part = options.out / f"{name}.part.json"
    return evaluate(checkpoint, options.data, part, options.images, 32, KS)


if __name__ == "__main__":
    main()
