"""Detection on photographs: alone, distilled, and from a backbone pretrained without labels.

    python recipes/detection_photographs.py COCO_FOLDER TEACHER [--teacher-arch ARCH]

COCO_FOLDER has train2017/, val2017/ and annotations/. TEACHER is any network of features: it
pretrains the student's backbone on the training images, without their boxes. The teacher of the
distilled rows is a wider detector, trained first. Every student has the same detector, images and
epochs; all else is at the defaults. A run whose results exist is not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from detection import COLUMNS
from tables import Row, last_figures, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import detect, pretrain

DETECTOR = ["--fpn-channels", "64", "--head-convs", "2", "--smallest-anchor", "16"]
DETECTOR += ["--min-size", "192", "--max-size", "256"]
WIDTH, SIZE = "0.25", "96"


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path, help="of the backbone")
    parser.add_argument("--teacher-arch", help="where the file does not show it")
    parser.add_argument("--out", type=Path, default=Path("runs/detection_photographs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="24", help="of each student")
    parser.add_argument("--teacher-epochs", default="48")
    parser.add_argument("--pretrain-epochs", default="100")
    parser.add_argument("--rows", nargs="*", help="run these rows alone")
    options = parser.parse_args()

    def run(row: Row, seed: int) -> dict[str, Any]:
        given = list(row.options)
        if row.name.startswith("pretrained"):
            given += ["--backbone-weights", str(backbone(options, seed))]
        return train(options, options.out / f"{row.name}-{seed}", given, seed)

    wide = ("--width", "0.5", "--epochs", options.teacher_epochs)
    done = run_rows([Row("teacher", wide)], run, options.out)
    rows = students(options)
    text = markdown(done | run_rows(rows, run, options.out), COLUMNS, "detector")
    print_and_write(text, options.out / "table.md")


def students(options: argparse.Namespace) -> list[Row]:
    """The student alone, distilled, pretrained, and both."""
    base = ("--width", WIDTH, "--epochs", options.epochs)
    wide = options.out / "teacher-0" / "checkpoints" / "last.pt"
    distilled = (*base, "--teacher", str(wide), "--mgd-weighing", "start")
    seeds = tuple(range(options.seeds))
    forms = {"alone": base, "distilled": distilled}
    forms |= {"pretrained": base, "pretrained, distilled": distilled}
    return [Row(n, f, seeds) for n, f in forms.items() if not options.rows or n in options.rows]


def train(options: argparse.Namespace, out: Path, given: list[str], seed: int) -> dict[str, Any]:
    """Train one detector; the figures of its last epoch."""
    arguments = [str(options.data), *DETECTOR, *given, "--val-every", "1000", "-j", "0"]
    arguments += ["--seed", str(seed), "--out", str(out), "--resume"]
    run_command(detect.main, arguments)
    return last_figures(out, COLUMNS)


def backbone(options: argparse.Namespace, seed: int) -> Path:
    """A student distilled on the training images without their boxes; trained once a seed."""
    out: Path = options.out / f"backbone-{seed}"
    arguments = [str(options.data / "train2017"), "--train-folder", "."]
    arguments += ["--teacher", str(options.teacher), "-a", "resnet18", "--width", WIDTH]
    arguments += ["--teacher-arch", options.teacher_arch] if options.teacher_arch else []
    arguments += ["--size", SIZE, "--epochs", options.pretrain_epochs, "--knn-every", "0"]
    arguments += ["-j", "0", "--health-every", "0", "--seed", str(seed), "--out", str(out)]
    run_command(pretrain.main, [*arguments, "--resume"])
    return out / "student.safetensors"


if __name__ == "__main__":
    main()
