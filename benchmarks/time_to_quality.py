"""Quality of a student after fixed budgets of CPU seconds, all included, and against lightly-train.

    python benchmarks/time_to_quality.py FOLDER TEACHER [--lightly PYTHON] [--budgets 300 900 1800]

FOLDER has train/ and val/ of class folders of image files. Each row trains the same thin ResNet-18
at 64 pixels, on one thread, decoding in the process that trains; a schedule of its own length fills
each budget, and the batch is each tool's default. A cache has a view for every three epochs.
Counted are the CPU seconds of the whole command, from the start of Python to the student's file,
and those of making the cache: other work on the machine disturbs them less than the clock. kNN (k
20, T 0.1) and linear accuracy are measured after. A row whose results exist is not repeated.
lightly-train is under the AGPL-3.0 and runs in a Python of its own.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightly_rows
import torch
from lightly_rows import Setting

from mgd_ssl.models import BackboneSpec
from mgd_ssl.settings.views import preset

sys.path.append(str(Path(__file__).parents[1] / "recipes"))
from tables import evaluate, mean_and_spread

ROOT = Path(__file__).parents[1]
SIZE, WIDTH = 64, 0.25
MOST_VIEWS, EPOCHS_A_VIEW = 20, 3
STUDENT = BackboneSpec("resnet18", WIDTH, "imagenet", 1)
OURS: dict[str, list[str]] = {
    "mgd-plus": [],
    "mgd-plus, AdamW": ["--optimizer", "adamw"],
    "mgd-plus, cached": [],
    "simreg": ["--method", "simreg"],
    "compress": ["--method", "compress"],
}
THEIRS = ["lightly-train", "lightly-train, lr x32"]
THEIR_BATCH = 128  # its default


@dataclass
class Bench:
    """Where everything is."""

    data: Path
    teacher: Path
    arch: str | None
    out: Path
    lightly: Path | None
    their_views: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--teacher-arch", help="where the file does not show it")
    parser.add_argument("--lightly", type=Path, help="the Python with lightly-train [this one]")
    parser.add_argument("--out", type=Path, default=Path("runs/time_to_quality"))
    parser.add_argument(
        "--their-views", default="small", help="of lightly-train; each needs its --out"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=[300, 900, 1800])
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    python = lightly_rows.find(options.lightly)
    place = options.data, options.teacher, options.teacher_arch, options.out.absolute()
    bench = Bench(*place, python, options.their_views)
    bench.out.mkdir(parents=True, exist_ok=True)
    named = ("--arch", options.teacher_arch) if options.teacher_arch else ()
    teacher = kept(bench, "teacher", lambda: measure(bench, "teacher", bench.teacher, named))
    print(f"teacher: kNN {teacher['knn20']:.2f}, linear {teacher['linear']:.2f}")
    print(
        "| row | budget | epochs | CPU seconds | kNN | % of teacher | linear |\n" + "|---" * 7 + "|"
    )
    for name in options.rows or [*OURS, *(THEIRS if python else ())]:
        for budget in options.budgets:
            print(
                line(name, budget, rows_of(bench, name, budget, options.seeds), teacher), flush=True
            )


def rows_of(bench: Bench, name: str, budget: float, seeds: list[int]) -> list[dict[str, Any]]:
    """The results of each seed, measured where they are missing."""
    return [
        kept(bench, f"{name}-{budget:.0f}-{seed}", partial(run, bench, name, budget, seed))
        for seed in seeds
    ]


def line(name: str, budget: float, rows: list[dict[str, Any]], teacher: dict[str, Any]) -> str:
    """A line of the table: means, and deviations where there are several seeds."""

    def mean(key: str) -> float:
        return float(statistics.mean(row[key] for row in rows))

    knn, linear = (mean_and_spread([row[key] for row in rows]) for key in ("knn20", "linear"))
    share = 100 * mean("knn20") / teacher["knn20"]
    numbers = f"{rows[0]['epochs']} | {mean('cpu'):.0f} | {knn} | {share:.1f} | {linear}"
    return f"| {name} | {budget:.0f} | {numbers} |"


def kept(bench: Bench, name: str, measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Results from their file, or measured and written."""
    path = bench.out / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(measured(), indent=2))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def run(bench: Bench, name: str, budget: float, seed: int) -> dict[str, Any]:
    """Train for a budget, and measure."""
    speed: dict[str, float] = kept(bench, f"{name}-speed", lambda: speed_of(bench, name))

    def expected(epochs: int) -> float:
        making = speed["view"] * views_of(epochs) if name.endswith("cached") else 0.0
        return speed["fixed"] + speed["epoch"] * epochs + making

    epochs = max((n for n in range(1, 10_000) if expected(n) <= budget), default=1)
    out = bench.out / f"{name}-{budget:.0f}-{seed}"
    seconds = train(bench, name, epochs, out, seed)
    figures = measure(bench, out.name, out / "student.safetensors")
    return figures | {"epochs": epochs, "cpu": seconds}


def views_of(epochs: int) -> int:
    """Views of an image that a cache holds for so many epochs."""
    return min(math.ceil(epochs / EPOCHS_A_VIEW), MOST_VIEWS)


def speed_of(bench: Bench, name: str) -> dict[str, float]:
    """CPU seconds of an epoch, of making a view of the cache, and of all else, from short runs."""
    tries = [bench.out / f"{name}-try{epochs}" for epochs in (1, 2)]
    view = make_cache(bench, tries[0], 1) if name.endswith("cached") else 0.0
    one, two = (train(bench, name, n, out, 0, tries[0]) for n, out in enumerate(tries, 1))
    return {"epoch": two - one, "view": view, "fixed": one - (two - one)}


def train(
    bench: Bench, name: str, epochs: int, out: Path, seed: int, cache: Path | None = None
) -> float:
    """Train a student; returns the CPU seconds of all processes.

    A cache is made first, and counted, unless the run whose cache serves is given.
    """
    before = cpu_seconds()
    if name in OURS:
        if name.endswith("cached") and cache is None:
            make_cache(bench, out, views_of(epochs))
        ours(bench, name, epochs, out, seed, cache or out)
    else:
        assert bench.lightly
        images = bench.data / "train"
        views = preset(bench.their_views, blur_p=0.0)
        place = images, bench.teacher, STUDENT, views, SIZE, THEIR_BATCH, epochs, 1, bench.arch
        lightly_rows.train(bench.lightly, name, seed, Setting(*place), out)
    return cpu_seconds() - before


def ours(bench: Bench, name: str, epochs: int, out: Path, seed: int, cache: Path) -> None:
    """Train one of this project's students."""
    words = ["-j", "0", "--epochs", str(epochs), "--seed", str(seed)]
    words += ["-a", "resnet18", "--width", str(WIDTH), "--knn-every", "0", "--health-every", "0"]
    words += ["--teacher-cache", f"{cache}-cache"] if name.endswith("cached") else []
    command("pretrain.py", *taught(bench), *words, *OURS[name], "--out", str(out), "--overwrite")


def make_cache(bench: Bench, out: Path, views: int) -> float:
    """Store the teacher's answers to so many views beside a run; returns the CPU seconds."""
    before = cpu_seconds()
    words = ["--out", f"{out}-cache", "--views", str(views), "-j", "0"]
    command("-m", "mgd_ssl", "cache", *taught(bench), *words)
    return cpu_seconds() - before


def taught(bench: Bench) -> list[str]:
    """Data, teacher and size, as words of a command line."""
    words = [str(bench.data), "--teacher", str(bench.teacher), "--size", str(SIZE)]
    return words + (["--teacher-arch", bench.arch] if bench.arch else [])


def command(*words: str) -> None:
    """Run Python on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True)


def cpu_seconds() -> float:
    """Of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(bench: Bench, name: str, file: Path, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """kNN and linear accuracy over all val images."""
    part = bench.out / f"{name}.part.json"
    return evaluate(file, bench.data, part, 10**9, SIZE, (20,), (*more, "-j", "0"))


if __name__ == "__main__":
    main()
