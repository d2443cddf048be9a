"""Few labels on photographs: a classifier from random weights, and from distilled students.

    python recipes/few_labels.py FOLDER STUDENT [STUDENT ...]

FOLDER has train/ and val/ of class folders. Each STUDENT is a run that pretrain.py distilled
without labels, one for each seed; the seed also chooses the labels. Both starts have the same
network, images and epochs, and the defaults of ``mgd-ssl classify``. A run whose results exist is
not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from classification import COLUMNS
from tables import Row, last_figures, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import classify
from mgd_ssl.models import load_backbone

EPOCHS = {"0.01": "120", "0.1": "60", "1": "20"}  # by share of the labels


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--shares", nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--optimizer", help="of mgd-ssl classify [its default]")
    options = parser.parse_args()
    seeds = tuple(range(len(options.students)))
    rows = [
        Row(f"{float(share):.0%} {start}", (share,), seeds)
        for share in options.shares
        for start in ("scratch", "distilled")
    ]

    def run(row: Row, seed: int) -> dict[str, Any]:
        student = options.students[seed] / "student.safetensors"
        start = ["--student-weights", str(student)]
        given = start if row.name.endswith("distilled") else network(student)
        return train(options, row, seed, given)

    text = markdown(run_rows(rows, run, options.out), COLUMNS, "labels, start")
    print_and_write(text, options.out / "table.md")


def network(student: Path) -> list[str]:
    """Options of a new network like a student."""
    spec = load_backbone(student)[1].spec
    stem = ["--stem", spec.stem, "--stem-stride", str(spec.stem_stride)]
    return ["-a", spec.arch, "--width", str(spec.width), *stem]


def train(options: argparse.Namespace, row: Row, seed: int, start: list[str]) -> dict[str, Any]:
    """Train one classifier; the figures of its last epoch."""
    (share,), out = row.options, options.out / f"{row.name}-{seed}"
    arguments = [str(options.data), *start, "--label-fraction", share, "--epochs", EPOCHS[share]]
    arguments += ["--val-every", "1000", "-j", "0", "--precision", options.precision]
    arguments += ["--optimizer", options.optimizer] if options.optimizer else []
    arguments += ["--size", "64", "--seed", str(seed), "--out", str(out), "--resume"]
    run_command(classify.main, arguments)
    return last_figures(out, COLUMNS)


if __name__ == "__main__":
    main()
