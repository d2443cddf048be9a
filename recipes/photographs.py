"""Optimizers and weights of the matching on color photographs: the defaults of pretraining.

    python recipes/photographs.py FOLDER TEACHER

FOLDER has train/ and val/ of class folders, TEACHER is any checkpoint that --teacher reads. The
student is a ResNet-18 of a quarter's width at 64 pixels. A run whose results exist is not repeated,
so that the recipe may be stopped and started, and two of them may share rows: ``--rows``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tables import ACCURACIES, Row, evaluate, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import pretrain

SIZE, KS = 64, (20,)
SGD = ("--optimizer", "sgd", "--wd", "1e-4", "--lr")
ADAMW = ("--optimizer", "adamw", "--wd", "0.05", "--lr", "2e-3")
PLUS = ("--method", "mgd-plus", "--mgd-start")
LINEAR = ("--method", "simreg", "--regression-head", "linear")
GROUPS = (*LINEAR, "--mgd-weight", "11.5", "--mgd-stage-weights", "1", "1", "1", "1")
FORMS = {
    "mgd-plus, SGD 0.05, start 0.3": (*SGD, "0.05", *PLUS, "0.3"),
    "mgd-plus, SGD 1.0, start 0.3": (*SGD, "1.0", *PLUS, "0.3"),
    "mgd-plus, SGD 0.05, start 30": (*SGD, "0.05", *PLUS, "30"),
    "linear regression, AdamW": (*ADAMW, *LINEAR),
    "mgd-plus, AdamW, start 0.3": (*ADAMW, *PLUS, "0.3"),
    "mgd-plus, AdamW, start 3": (*ADAMW, *PLUS, "3"),
    "mgd-plus, AdamW, start 30": (*ADAMW, *PLUS, "30"),
    "groups, AdamW, weight 11.5": (*ADAMW, *GROUPS),
}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--teacher-arch", help="where the file does not show it")
    parser.add_argument("--out", type=Path, default=Path("runs/photographs"))
    parser.add_argument("--epochs", default="6")
    parser.add_argument("-b", "--batch-size", default="128")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", type=int, help="run these rows alone, from 0")
    options = parser.parse_args()
    seeds = tuple(range(options.seeds))
    names = [list(FORMS)[i] for i in options.rows or range(len(FORMS))]
    table = [Row(name, FORMS[name], seeds) for name in names]
    done = run_rows([Row("teacher", ())], lambda row, _: teacher(options), options.out)
    done |= run_rows(table, lambda row, seed: train(row, seed, options), options.out)
    text = markdown(done, ACCURACIES, of="teacher")
    print_and_write(text, options.out / "table.md")


def teacher(options: argparse.Namespace) -> dict[str, Any]:
    """The teacher's figures."""
    named = ("--arch", options.teacher_arch) if options.teacher_arch else ()
    return measure("teacher", options.teacher, options, named)


def train(row: Row, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one student and measure it."""
    out = options.out / f"{row.name}-{seed}"
    arguments = [str(options.data), "--teacher", str(options.teacher), "--width", "0.25"]
    arguments += ["--teacher-arch", options.teacher_arch] if options.teacher_arch else []
    arguments += ["--size", str(SIZE), "-b", options.batch_size, "-j", "0"]
    arguments += ["--epochs", options.epochs, "--knn-every", "0", "--health-every", "0"]
    arguments += ["--seed", str(seed), "--out", str(out), "--resume", *row.options]
    run_command(pretrain.main, arguments)
    return measure(out.name, out / "student.safetensors", options)


def measure(
    name: str, checkpoint: Path, options: argparse.Namespace, named: Sequence[str] = ()
) -> dict[str, Any]:
    """kNN and linear accuracy over all val images, all train images in the bank."""
    part = options.out / f"{name}.part.json"
    return evaluate(checkpoint, options.data, part, 10**9, SIZE, KS, named)


if __name__ == "__main__":
    main()
