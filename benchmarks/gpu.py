"""What pretraining costs on a GPU, measured in a few minutes.

For each pair of networks, at 224 pixels in bf16 and channels-last: images a second of a step, its
share of the card's own matrix rate, the same for the networks' forward and backward alone, peak
memory, and how often the host waits for the device in a step. Then images a second of the loader,
and of a whole run of pretrain.py on a folder of JPEG files of 500x375.

    python benchmarks/gpu.py [--batch 256] [--pairs resnet50:resnet18] [--files 4096] [--workers 16]
"""

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mgd_ssl.commands import pretrain
from mgd_ssl.data import Batch
from mgd_ssl.models import create_backbone
from mgd_ssl.runs.pretrain import build
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.devices import start_fabric

FAST: dict[str, Any] = {"precision": "bf16", "channels_last": True, "knn_every": 0}
WARM, STEPS, SIDE = 10, 30, 224


@dataclass
class Cost:
    """A step's figures."""

    milliseconds: float
    images: float
    share: float
    gigabytes: float
    waits: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--pairs", nargs="+", default=["resnet50:resnet18"])
    parser.add_argument("--methods", nargs="+", default=["mgd-plus", "mgd", "simreg"])
    parser.add_argument("--files", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=16)
    options = parser.parse_args()
    peak = matrix_rate()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {peak / 1e12:.0f} TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_photographs(place / "images", options.files)
        for pair in options.pairs:
            teacher, student = pair.split(":")
            file = place / f"{teacher.replace('/', '-')}.pt"
            content = {"state_dict": create_backbone(teacher).state_dict(), "arch": teacher}
            torch.save(content, file)
            for method in options.methods:
                measure_step(place / "images", file, student, method, options.batch, peak)
        measure_run(place, file, student, options)


def measure_step(
    data: Path, teacher: Path, student: str, method: str, batch: int, peak: float
) -> None:
    """Print the cost of a step whose images are on the device, and of its networks alone."""
    config = complete(
        PretrainConfig,
        data=data,
        teacher=teacher,
        arch=student,
        method=method,
        batch_size=batch,
        health_every=0,
        **({"moco_k": 64 * batch} if method == "mgd" else {}),
        **FAST,
    )
    fabric = start_fabric(config.device)
    torch.manual_seed(0)
    run = build(config, fabric)
    run.lay_out()
    if run.task.distiller:
        noise = [torch.rand(64, 3, SIDE, SIDE, device=fabric.device) for _ in range(2)]
        with fabric.autocast():
            run.task.measure(noise)
            run.task.solve(noise)
    shape = (batch, config.objective.views, 3, SIDE, SIDE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=fabric.device)
    indices = torch.arange(batch)
    unlabeled = torch.full_like(indices, -1)
    given = Batch(images, unlabeled, indices, indices[:0])

    def step() -> None:
        total: Tensor = torch.stack(list(run.step(given).values())).sum()
        run.optimizer.zero_grad(set_to_none=True)
        fabric.backward(total)
        run.optimizer.step()

    plain = torch.rand(batch, 3, SIDE, SIDE, device=fabric.device)
    plain = plain.to(memory_format=torch.channels_last)

    def networks() -> None:
        with fabric.autocast():
            for _, read in run.task.frozen():
                with torch.no_grad():
                    read(plain)
            for _ in range(run.task.encodings):
                output = run.task.student(plain)
                output.float().sum().backward()

    whole, alone = cost(step, batch, peak), cost(networks, batch, peak)
    outside = 100 * (whole.milliseconds - alone.milliseconds) / whole.milliseconds
    print(
        f"{teacher.stem} -> {student}, {method}, batch {batch}: {whole.images:.0f} images/s "
        f"({whole.milliseconds:.1f} ms a step, {whole.share:.0%} of the matrix rate, "
        f"{whole.gigabytes:.1f} GB, {whole.waits:.1f} waits); networks alone "
        f"{alone.images:.0f} images/s ({alone.share:.0%}); outside them {outside:.1f} %"
    )


def cost(step: Callable[[], None], batch: int, peak: float) -> Cost:
    """Time a step by device events after a warm-up; median of single steps."""
    for _ in range(WARM):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(STEPS + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    pairs = itertools.pairwise(marks)
    milliseconds = statistics.median(a.elapsed_time(b) for a, b in pairs)
    gigabytes = torch.cuda.max_memory_allocated() / 1e9
    waits = host_waits(step)
    with FlopCounterMode(display=False) as counter:
        step()
    share = counter.get_total_flops() / (milliseconds / 1e3) / peak
    return Cost(milliseconds, batch / milliseconds * 1e3, share, gigabytes, waits)


def host_waits(step: Callable[[], None], steps: int = 5) -> float:
    """How often the host waits for the device in a step."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(steps):
                step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in caught) / steps


def matrix_rate(side: int = 8192) -> float:
    """bf16 operations a second of a large matrix product on random data."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        a @ b
    end.record()
    torch.cuda.synchronize()
    seconds: float = start.elapsed_time(end) / 1e3
    return 2 * side**3 * 10 / seconds


def measure_run(place: Path, teacher: Path, student: str, options: argparse.Namespace) -> None:
    """Print images a second of the loader alone and of a whole run, the start left out."""
    words = [str(place / "images"), "--teacher", str(teacher), "-a", student]
    words += ["-b", str(options.batch), "-j", str(options.workers), "--epochs", "4"]
    words += ["--precision", "bf16", "--channels-last", "--knn-every", "0", "--health-every", "0"]
    words += ["--mgd-update-images", "512", "--out", str(place / "run")]
    config = complete(
        PretrainConfig,
        data=place / "images",
        teacher=teacher,
        arch=student,
        batch_size=options.batch,
        workers=options.workers,
        health_every=0,
        **FAST,
    )
    run = build(config, start_fabric(config.device))
    rate = [paced(run.data.loader, options.batch) for _ in range(2)][1]
    print(f"loader, {options.workers} workers, 500x375 JPEG: {rate:.0f} images/s")
    started = time.perf_counter()
    assert pretrain.main(words) == 0
    rows = (place / "run" / "metrics.jsonl").read_text().splitlines()
    print(f"run of 4 epochs of {options.files} files: {time.perf_counter() - started:.0f} s")
    print(rows[-1])


def paced(loader: Iterable[Any], batch: int) -> float:
    """Images a second of an epoch."""
    started, images = time.perf_counter(), 0
    for _ in loader:
        images += batch
    return images / (time.perf_counter() - started)


def write_photographs(folder: Path, count: int) -> None:
    """JPEG files of 500x375 with the smoothness of photographs, 64 different ones."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        if number < 64:
            coarse = generator.integers(0, 256, (47, 63, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            picture.save(folder / f"{number:06}.jpg", quality=90)
        else:
            (folder / f"{number:06}.jpg").hardlink_to(folder / f"{number % 64:06}.jpg")


if __name__ == "__main__":
    main()
