"""Reducers and seeds on Fashion-MNIST, against the student alone: in docs/results_earlier.md.

    python recipes/fashion_mnist.py FOLDER_OF_IDX_FILES

FOLDER holds Fashion-MNIST's four IDX files. Every run has the same network, images, views and
epochs. A run whose results exist is not repeated, so that the recipe may be stopped and started.
"""

import argparse
from pathlib import Path
from typing import Any

from tables import Row, evaluate, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import pretrain
from mgd_ssl.objectives import OBJECTIVES
from mgd_ssl.objectives.objective import Contrastive, WithQueue
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER

VIEWS = ["--preset", "small", "--crop-min", "0.5", "--jitter-hue", "0"]
VIEWS += ["--jitter-saturation", "0", "--gray-p", "0"]
NETWORK = ["-a", "resnet18", "--width", "0.125", "--stem", "small", "--stem-stride", "2"]
SGD = ["--optimizer", "sgd", "--lr", "0.06"]
DECAY = ["--wd", "5e-4"]
KS = (20, 200)


def rows(teacher: Path, seeds: int, factor: str) -> list[Row]:
    """The student alone and absolute max pooling with every seed, each other reducer with one."""
    many = tuple(range(seeds))
    method = ("--method", "mgd", "--teacher", str(teacher))
    distil = (*method, "--mgd-loss-factor", factor, "--mgd-reducer")
    return [
        Row("alone", ("--method", "moco"), many),
        Row("amp", (*distil, "amp"), many),
        *(Row(reducer, (*distil, reducer)) for reducer in ("sp", "sp_avg", "rd", "sm")),
    ]


def queue(method: str) -> list[str]:
    """The settings of a queue and of a momentum encoder, for a method that has them."""
    objective = OBJECTIVES[METHODS[method].objective]
    size = ["--moco-k", "4096"] if issubclass(objective, WithQueue) else []
    momentum = ["--moco-m", "0.99", "--moco-t", "0.1"]
    return size + (momentum if issubclass(objective, Contrastive) else [])


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion_mnist"))
    parser.add_argument("--teacher", type=Path, default=EMBEDDED_TEACHER)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--factor", default="100", help="--mgd-loss-factor")
    parser.add_argument("--rows", nargs="*", help="run these rows alone, to share the work out")
    options = parser.parse_args()

    def measure(name: str, checkpoint: Path) -> dict[str, float]:
        out = options.out / f"{name}.part.json"
        return evaluate(checkpoint, options.data, out, options.images, 32, KS)

    def run(row: Row, seed: int) -> dict[str, Any]:
        out = options.out / f"{row.name}-{seed}"
        return measure(out.name, train(row, seed, out, options))

    teacher = Row("teacher", ())
    done = run_rows([teacher], lambda row, _: measure(row.name, options.teacher), options.out)
    table = rows(options.teacher, options.seeds, options.factor)
    table = [row for row in table if not options.rows or row.name in options.rows]
    columns = {f"knn{k}": f"kNN, k {k}" for k in KS} | {"linear": "linear"}
    text = markdown(done | run_rows(table, run, options.out), columns, of="teacher")
    print_and_write(text, options.out / "table.md")


def train(row: Row, seed: int, out: Path, options: argparse.Namespace) -> Path:
    """Train one student; the file that it is in."""
    arguments = [str(options.data), "--limit", str(options.images), "--size", "32"]
    arguments += ["--epochs", str(options.epochs), "-b", "128"]
    arguments += [*SGD, *DECAY, *NETWORK, *queue("moco"), *VIEWS]
    arguments += ["--knn-every", "0", "--seed", str(seed)]
    run_command(pretrain.main, [*arguments, "--out", str(out), "--resume", *row.options])
    return out / "student.safetensors"


if __name__ == "__main__":
    main()
