"""Every reducer, logits, both, and a share of the labels, in docs/results_earlier.md.

    python recipes/classification.py FOLDER_OF_IDX_FILES

FOLDER holds Fashion-MNIST's four IDX files. Every student of the first table has the same network,
images, views and epochs. A run whose results exist is not repeated, so that the recipe may be
stopped and started.
"""

import argparse
from pathlib import Path
from typing import Any

from fashion_mnist import NETWORK, VIEWS, queue
from tables import Row, last_figures, markdown, print_and_write, run_command, run_rows

from mgd_ssl.commands import classify, pretrain
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER

SGD = ["--optimizer", "sgd", "--lr", "0.1"]
IMAGES = ["--limit", "12000", "--size", "32", "--wd", "5e-4", "--val-every", "1000"]
COLUMNS = {"val_top1": "top-1", "val_top5": "top-5"}


def main() -> None:
    """Run what is missing, then write both tables; the seed also chooses the labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/classification"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--factor", default="100", help="--mgd-loss-factor")
    options = parser.parse_args()
    seeds = tuple(range(options.seeds))

    def run(row: Row, seed: int) -> dict[str, Any]:
        return train(options.data, options.out / f"{row.name}-{seed}", row.options, seed)

    wide = (*NETWORK, "--width", "0.5", "--epochs", "10", "-b", "128", *SGD)
    done = run_rows([Row("teacher", wide)], run, options.out)
    teacher = options.out / "teacher-0" / "checkpoints" / "last.pt"
    done |= run_rows(students(teacher, options.factor, seeds), run, options.out)
    text = markdown(done, COLUMNS)

    def tune(row: Row, seed: int) -> dict[str, Any]:
        extra = NETWORK
        if row.name.startswith("pretrained"):
            weights = pretrained(options.data, options.out / "mgd")
            extra = ["--student-weights", str(weights)]
        given = (*row.options, *extra)
        return train(options.data, options.out / f"{row.name}-{seed}", given, seed)

    text += "\n" + markdown(run_rows(shares(seeds), tune, options.out), COLUMNS)
    print_and_write(text, options.out / "table.md")


def students(teacher: Path, factor: str, seeds: tuple[int, ...]) -> list[Row]:
    """The student alone, with each reducer, with the teacher's logits, with both."""
    base = (*NETWORK, "--epochs", "6", "-b", "128", *SGD)
    distil = (*base, "--teacher", str(teacher))
    matching = (*distil, "--mgd-loss-factor", factor)
    others = ("sp", "sp_avg", "rd", "sm")
    return [
        Row("alone", base, seeds),
        Row("amp", (*matching, "--mgd-reducer", "amp"), seeds),
        *(Row(name, (*matching, "--mgd-reducer", name), seeds[:2]) for name in others),
        Row("kd", (*distil, "--kd", "--no-matching"), seeds),
        Row("amp + kd", (*matching, "--kd"), seeds),
    ]


def shares(seeds: tuple[int, ...]) -> list[Row]:
    """1 % and 10 % of the labels, from scratch and from a student of pretrain.py."""
    sgd = ("-b", "32", "--optimizer", "sgd", "--lr", "0.02")
    few = ("--label-fraction", "0.01", "--epochs", "100", *sgd)
    more = ("--label-fraction", "0.1", "--epochs", "30", *sgd)
    starts = ("scratch", "pretrained")
    return [Row(f"{s}, {n}", o, seeds) for n, o in (("1 %", few), ("10 %", more)) for s in starts]


def train(data: Path, out: Path, options: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Train one classifier; the figures of its last epoch."""
    arguments = [str(data), *IMAGES, *options, "--seed", str(seed), "--out", str(out), "--resume"]
    run_command(classify.main, arguments)
    return last_figures(out, COLUMNS)


def pretrained(data: Path, out: Path) -> Path:
    """A student distilled without labels from the embedded teacher; trained once."""
    arguments = [str(data), "--limit", "12000", "--size", "32", *NETWORK, *queue("moco")]
    arguments += ["--knn-every", "0", *VIEWS]
    arguments += ["--teacher", str(EMBEDDED_TEACHER), "--method", "mgd", "--mgd-loss-factor", "100"]
    arguments += ["--optimizer", "sgd", "--lr", "0.06", "--wd", "5e-4"]
    arguments += ["--epochs", "8", "-b", "128"]
    run_command(pretrain.main, [*arguments, "--out", str(out), "--resume"])
    return out / "student.safetensors"


if __name__ == "__main__":
    main()
