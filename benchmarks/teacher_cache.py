"""Training from a teacher cache in terms of training with the teacher: images a second, a step.

Each pair takes real steps of `pretrain.py`, from the image files to the optimizer, decoding in the
process; with the teacher and from its cache in turn. Networks have random weights, and see views of
one size. Targets: 1.9 times for ResNet-50 -> ResNet-18 at 224 pixels, 2.5 for EfficientNet-Lite0 ->
a thin ResNet-18.

    python benchmarks/teacher_cache.py FOLDER [--repeats 7] [--method mgd-plus]
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from timing import describe, in_turn, spread

from mgd_ssl.data import open_source
from mgd_ssl.models import create_backbone
from mgd_ssl.runs import cache as cache_runs
from mgd_ssl.runs.pretrain import PretrainRun, build
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.loop import Position
from mgd_ssl.training.starting import start_run

# Teacher, options of the student, side of the images, batch.
THIN = {"arch": "resnet18", "width": 0.25}
PAIRS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "ResNet-50 -> ResNet-18, 224 pixels": ("resnet50", {"arch": "resnet18"}, 224, 8),
    "Lite0 -> ResNet-18 of a quarter, 96": ("tf_efficientnet_lite0", THIN, 96, 64),
    "Lite0 -> ResNet-18 of a quarter, 64": ("tf_efficientnet_lite0", THIN, 64, 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder of image files")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--method", default="mgd-plus")
    options = parser.parse_args()
    describe(options.threads, options.repeats)
    for name, pair in PAIRS.items():
        with tempfile.TemporaryDirectory() as folder:
            compare(name, *pair, Path(folder), options)


def compare(
    name: str,
    teacher: str,
    student: dict[str, Any],
    size: int,
    batch: int,
    folder: Path,
    options: argparse.Namespace,
) -> None:
    """Print the ratio of CPU seconds of a step, with the teacher and from the cache."""
    file, data = folder / "teacher.pt", links(options.data, folder / "data", 4 * batch)
    torch.save(create_backbone(teacher).state_dict(), file)
    taught = {"teacher": file, "teacher_arch": teacher, "size": size, "teacher_size": 0}
    made = {"batch_size": batch, "workers": 0, "views": 1, "out": folder / "cache"}
    cache_runs.run(complete(CacheConfig, data=(data,), **taught, **made))
    common = {"batch_size": batch, "workers": 0, "method": options.method, **student}
    common |= {"knn_every": 0, "health_every": 0, "threads": options.threads}
    ways: dict[str, dict[str, Any]] = {
        "teacher": {"mgd_grid": 0},
        "cache": {"teacher_cache": folder / "cache"},
    }
    steps = {
        way: stepper(complete(PretrainConfig, data=(data,), **taught, **common, **more))
        for way, more in ways.items()
    }
    rows = in_turn(steps, options.repeats)
    live, cached = (batch / statistics.median(row[way] for row in rows) for way in ways)
    ratios = [row["teacher"] / row["cache"] for row in rows]
    print(
        f"{name:<38} teacher {live:6.0f} images/s  cache {cached:6.0f} images/s  "
        f"{spread(ratios, ' times')}",
        flush=True,
    )


def links(data: Path, folder: Path, count: int) -> Path:
    """A folder of so many links to images, again and again to the same where there are few."""
    folder.mkdir()
    source = open_source(data, "train")
    for index in range(count):
        path = Path(source.describe(index % len(source))).resolve()
        (folder / f"{index:05}{path.suffix}").symlink_to(path)
    return folder


def stepper(config: PretrainConfig) -> Callable[[], None]:
    """A step of a run: the next batch from its files, both networks, the update."""
    run = build(*start_run(config))
    module, optimizer = run.fabric.setup(run.task, run.optimizer)
    run.module = module
    if run.task.distiller:
        run.task.solve([next(iter(run.data.solving_batches(Position())))])
    batches = endless(run)

    def step() -> None:
        losses = run.step(run.fabric.to_device(next(batches)))
        optimizer.zero_grad(set_to_none=True)
        run.fabric.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()

    return step


def endless(run: PretrainRun) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    for epoch in cycle(range(1000)):
        run.data.loader.set_position(epoch)
        yield from run.data.loader


if __name__ == "__main__":
    main()
