"""The same student distilled by this project and by lightly-train, from the same teacher.

    python benchmarks/side_by_side.py FOLDER_OF_IDX_FILES TEACHER [--lightly PYTHON]

FOLDER holds Fashion-MNIST's four IDX files, TEACHER is any ResNet checkpoint that load_backbone
takes. Every row has the same images, read from the same PNG files in the process that trains, the
same teacher, student, size, batch, epochs and crops, and is evaluated by this project's kNN and
linear probe. Teacher and student see views of one size. Optimizers, schedules and losses are each
tool's own. A run whose results exist is not repeated. Not equal: lightly-train mixes pairs of
images, as its method does; it resizes crops by area, this project bilinearly; it draws the order of
the jitter an image, this project a batch.

images/s is the median over epochs but the first, steps alone: checkpoints and the solving of the
matching are outside. "training, s" is the whole training call with these; in neither are imports
and evaluation, which the last column has too.

lightly-train is under the AGPL-3.0 and runs in a process, and if wished a Python, of its own.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightly_rows
import timing
import torch
from lightly_rows import Setting
from torchvision.io import write_png

from mgd_ssl.commands import pretrain
from mgd_ssl.data import CenterCrop, ImageDataset, open_source, shorter_side, subset
from mgd_ssl.models import BackboneSpec
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig

sys.path.append(str(Path(__file__).parents[1] / "recipes"))
from fashion_mnist import DECAY, NETWORK, VIEWS, queue
from tables import (
    ACCURACIES,
    Results,
    Row,
    evaluate,
    markdown,
    print_and_write,
    run_command,
    run_rows,
)

COLUMNS = {
    **ACCURACIES,
    "images_per_second": "images/s",
    "training": "training, s",
}
PLUS = ("--method", "mgd-plus")
SGD = ("--optimizer", "sgd", "--lr")
OURS = {  # what pretrain.py is told, each at the best learning rate that docs/log.md knows for it
    "mgd-plus": (*PLUS, "--wd", "0.05"),
    "mgd-plus, SGD": (*PLUS, *SGD, "1.0", "--mgd-start", "0.3"),
    "mgd, 2021": ("--method", "mgd", "--mgd-loss-factor", "100", *SGD, "0.3"),
    "simreg": ("--method", "simreg", *SGD, "1.0"),
    "seed": ("--method", "seed", *SGD, "0.3"),
    "compress": ("--method", "compress", *SGD, "0.3"),
}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--lightly", type=Path, help="the Python with lightly-train [this one]")
    parser.add_argument("--out", type=Path, default=Path("runs/side_by_side"))
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", nargs="*", help="run these rows alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    python = lightly_rows.find(options.lightly)
    names = [*OURS, *(lightly_rows.ROWS if python else ())]
    if unknown := set(options.rows or ()) - set(names):
        parser.error(f"--rows: got {', '.join(unknown)}, expected some of: {'; '.join(names)}")
    done = run_table([n for n in names if not options.rows or n in options.rows], python, options)
    text = f"{markdown(done, COLUMNS)}\n{describe(done, options)}\n"
    print_and_write(text, options.out / "table.md")


def run_table(names: list[str], python: Path | None, options: argparse.Namespace) -> Results:
    """The teacher's figures, then every row's."""
    setting = setting_of(options)

    def measure(name: str, checkpoint: Path) -> dict[str, Any]:
        part = options.out / f"{name}.part.json"
        figures = evaluate(checkpoint, options.data, part, options.images, options.size, (20,))
        return figures | {"processor": processor()}

    def run(row: Row, seed: int) -> dict[str, Any]:
        out = options.out / f"{row.name}-{seed}"
        if row.name in OURS:
            figures = train_ours(row.name, seed, setting, out)
        else:
            assert python is not None
            figures = train_theirs(python, row.name, seed, setting, out)
        return figures | measure(out.name, out / "student.safetensors")

    teacher = [Row("teacher", ())]
    done = run_rows(teacher, lambda row, _: measure(row.name, options.teacher), options.out)
    table = [Row(name, (), tuple(range(options.seeds))) for name in names]
    return done | run_rows(table, run, options.out)


def setting_of(options: argparse.Namespace) -> Setting:
    """What every row shares; the images are written where they are missing."""
    config = parse(PretrainConfig, "pretrain.py", ["DATA", *NETWORK, *VIEWS])
    return Setting(
        images=write_images(options.data, options.images, options.size, options.out),
        teacher=options.teacher,
        student=BackboneSpec(**config.network.spec),
        views=config.views,
        size=options.size,
        batch=options.batch,
        epochs=options.epochs,
        threads=options.threads,
    )


def write_images(data: Path, count: int, size: int, out: Path) -> Path:
    """A folder of PNG files: the centers of the images, which both tools cut their crops from."""
    folder, side = out / f"images-{count}-{size}", shorter_side(size)
    if folder.exists():
        return folder
    part = folder.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    images = subset(open_source(data, "train"), count)
    centers = ImageDataset(images, CenterCrop(side, side))
    for index in range(len(centers)):
        write_png(centers[index].image, str(part / f"{index:07d}.png"))
    return part.rename(folder)


def train_ours(name: str, seed: int, setting: Setting, out: Path) -> dict[str, Any]:
    """Train one student with pretrain.py, decoding in its own process as lightly-train does."""
    arguments = [str(setting.images), "-j", "0", "--size", str(setting.size), "--teacher-size", "0"]
    arguments += ["--epochs", str(setting.epochs), "-b", str(setting.batch)]
    method = OURS[name][OURS[name].index("--method") + 1]
    arguments += [*NETWORK, *DECAY, *queue(method), *VIEWS]
    arguments += ["--knn-every", "0", "--health-every", "0"]
    arguments += ["--teacher", str(setting.teacher), *OURS[name], "--seed", str(seed)]
    started = time.perf_counter()
    run_command(pretrain.main, [*arguments, "--out", str(out), "--overwrite"])
    seconds = time.perf_counter() - started
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return {"images_per_second": middle(speeds), "training": seconds}


def train_theirs(python: Path, name: str, seed: int, setting: Setting, out: Path) -> dict[str, Any]:
    """Train one student with lightly-train."""
    result = lightly_rows.train(python, name, seed, setting, out)
    speeds = speeds_of(result["steps"], setting.epochs, setting.batch)
    figures = {"images_per_second": middle(speeds), "training": result["seconds"]}
    return figures | {"lightly": result["versions"]}


def speeds_of(steps: list[float], epochs: int, batch: int) -> list[float]:
    """Images a second in each epoch, from the clock at which its steps began."""
    each = len(steps) // epochs
    runs = [steps[i * each : (i + 1) * each] for i in range(epochs)]
    return [batch * (len(run) - 1) / (run[-1] - run[0]) for run in runs]


def middle(speeds: list[float]) -> float:
    """The median over the epochs but the first, which warms up."""
    return statistics.median(speeds[1:] or speeds)


def processor() -> str:
    """Names of the processor and the GPU, where there is one, and the number of cores."""
    device = f" and {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{timing.processor()}{device}"


def describe(done: Results, options: argparse.Namespace) -> str:
    """Protocol, hardware and versions, as the runs recorded them."""
    runs = [result for results in done.values() for result in results]
    own = _versions(run["versions"] for run in runs)
    theirs = _versions(run["lightly"] for run in runs if "lightly" in run)
    return (
        f"{options.images} training images, {options.size} pixels, batch {options.batch}, "
        f"{options.epochs} epochs; kNN and linear over all test images.\n"
        f"{'; '.join(sorted({run['processor'] for run in runs}))}; "
        f"{', '.join(sorted({str(run['threads']) for run in runs}))} thread(s), one process.\n"
        f"{own}{f'; beside it {theirs}' if theirs else ''}."
    )


def _versions(runs: Iterable[dict[str, str]]) -> str:
    return ", ".join(sorted({f"{name} {n}" for found in runs for name, n in found.items()}))


if __name__ == "__main__":
    main()
