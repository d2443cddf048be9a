"""Detection on generated scenes, in docs/results_earlier.md: teacher, student alone and distilled.

    python recipes/detection.py FOLDER_OF_IDX_FILES

FOLDER holds Fashion-MNIST's four IDX files, whose items are set on 500 training and 200 validation
scenes. Every student has the same detector, scenes and epochs. A run whose results exist is not
repeated, so that the recipe may be stopped and started.
"""

import argparse
from pathlib import Path
from typing import Any

from make_detection import make_scenes
from tables import Row, last_figures, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import detect
from mgd_ssl.data.reader import Split

DETECTOR = ["--fpn-channels", "64", "--head-convs", "2", "--smallest-anchor", "16"]
DETECTOR += ["--min-size", "128", "--max-size", "213", "-a", "resnet18"]
TRAINING = ["-b", "8", "--optimizer", "adamw", "--lr", "1e-3", "--cos", "--warmup-steps", "50"]
COLUMNS = {"val_AP": "AP", "val_AP50": "AP50", "val_AP75": "AP75"}
SCENES: dict[Split, int] = {"train": 500, "val": 200}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/detection"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="20", help="of each student")
    parser.add_argument("--teacher-epochs", default="40")
    options = parser.parse_args()
    data = options.out / "scenes"
    if not (data / "annotations" / "instances_val.json").exists():
        make_scenes(options.items, data, SCENES)

    def run(row: Row, seed: int) -> dict[str, Any]:
        return train(data, options.out / f"{row.name}-{seed}", row.options, seed)

    wide = ("--width", "0.5", "--epochs", options.teacher_epochs)
    done = run_rows([Row("teacher", wide)], run, options.out)
    teacher = options.out / "teacher-0" / "checkpoints" / "last.pt"
    rows = students(teacher, options.epochs, tuple(range(options.seeds)))
    text = markdown(done | run_rows(rows, run, options.out), COLUMNS, "detector")
    print_and_write(text, options.out / "table.md")


def students(teacher: Path, epochs: str, seeds: tuple[int, ...]) -> list[Row]:
    """The student alone, and distilled from two weights of the matching."""
    base = ("--width", "0.25", "--epochs", epochs)
    distil = (*base, "--teacher", str(teacher), "--mgd-start")
    return [
        Row("alone", base, seeds),
        Row("distilled, 0.3", (*distil, "0.3"), seeds),
        Row("distilled, 0.03", (*distil, "0.03")),
    ]


def train(data: Path, out: Path, options: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Train one detector; the figures of its last epoch."""
    arguments = [str(data), *DETECTOR, *TRAINING, *options, "--val-every", "1000", "-j", "0"]
    arguments += ["--seed", str(seed), "--out", str(out), "--resume"]
    run_command(detect.main, arguments)
    return last_figures(out, COLUMNS)


if __name__ == "__main__":
    main()
