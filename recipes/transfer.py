"""Detectors that start from the students of objectives.py, in docs/results_earlier.md.

    python recipes/transfer.py FOLDER_OF_IDX_FILES runs/objectives

Fine-tunes the same detector on the same generated scenes from each student: its stem frozen, its
batch norms as they are. A run whose results exist is not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from detection import COLUMNS, SCENES, train
from fashion_mnist import NETWORK
from make_detection import make_scenes
from tables import Row, markdown, print_and_write, run_rows

# the students' stem halves an image where the detector's usual one quarters it
HALF = ("--min-size", "64", "--max-size", "107", "--smallest-anchor", "8")


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("items", type=Path)
    parser.add_argument("students", type=Path, help="folder of objectives.py")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", default="6")
    parser.add_argument("--rows", nargs="+", default=["alone (moco)", "simreg", "mgd-plus"])
    options = parser.parse_args()
    data = options.out / "scenes"
    if not (data / "annotations" / "instances_val.json").exists():
        make_scenes(options.items, data, SCENES)

    def run(row: Row, seed: int) -> dict[str, Any]:
        start = options.students / f"{row.name}-{seed}" / "student.safetensors"
        # from random weights everything is trained, as no stem or norm is worth keeping
        weights = () if row.name == "scratch" else ("--backbone-weights", str(start))
        told = (*NETWORK, *HALF, "--epochs", options.epochs, *weights)
        return train(data, options.out / f"{row.name}-{seed}", told, seed)

    rows = [Row(name, (), tuple(range(options.seeds))) for name in ("scratch", *options.rows)]
    text = markdown(run_rows(rows, run, options.out), COLUMNS, "backbone")
    print_and_write(text, options.out / "table.md")


if __name__ == "__main__":
    main()
