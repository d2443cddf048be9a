"""An index of very many images: time and memory to open it, what workers share, the shuffling.

The shards are empty files of a size, and their index is written as `mgd-ssl pack` leaves it. No
image is read.

    python benchmarks/data_index.py [--images 10000000] [--shards 10000] [--ranks 64] [--workers 8]
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import describe

from mgd_ssl.data import ResumableBatchSampler, open_source
from mgd_ssl.data.archives.array_file import write_arrays
from mgd_ssl.data.archives.entries import Table
from mgd_ssl.data.archives.index import Archive, Part, index_content
from mgd_ssl.data.sampling import Blocks, shuffled

NAME = b"n00000000/n00000000_00000000.JPEG"
CLASSES, SHARD_SIZE, STEP = 1000, 2**27, 110_000
TOUCHED = 100_000  # images that each worker looks up
OPEN = "--open"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument(OPEN, type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        measure_opening(options.open, options.workers)
        return
    describe(1, 1)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), options.images, options.shards)
        command = [sys.executable, __file__, OPEN, folder, "--workers", str(options.workers)]
        subprocess.run(command, check=True)
    measure_shuffling(options.images, options.images // options.shards, options.ranks)


def write_shards(folder: Path, images: int, shards: int) -> None:
    """Empty shards, and an index that says what they would hold."""
    began = time.perf_counter()
    for number in range(shards):
        with (folder / f"{number:06}.tar").open("wb") as file:
            file.truncate(SHARD_SIZE)
    archives = [Archive.of(folder / f"{number:06}.tar") for number in range(shards)]
    bounds = np.linspace(0, images, shards + 1).astype(int)
    parts = [part(int(start), int(stop)) for start, stop in pairwise(bounds)]
    write_arrays(folder / ".shards.mgd-index", *index_content(archives, parts))
    size = (folder / ".shards.mgd-index").stat().st_size
    print(
        f"{images:,} images in {shards:,} shards: an index of {size / 2**20:,.0f} MiB, "
        f"{size / images:.0f} bytes an image, made in {time.perf_counter() - began:.1f} s"
    )


def part(start: int, stop: int) -> Part:
    """The images of one shard, named like those of ImageNet."""
    numbers = np.arange(start, stop)
    labels = numbers % CLASSES
    text = np.tile(np.frombuffer(NAME, np.uint8), (len(numbers), 1))
    for place, values in ((9, labels), (19, labels), (28, numbers)):
        digits(text, place, values)
    columns: dict[str, NDArray[Any]] = {
        "text": text.reshape(-1),
        "ends": np.arange(1, len(numbers) + 1) * len(NAME),
        "offset": 512 + (numbers - start) * STEP,
        "size": np.full(len(numbers), STEP - 512),
        "label": labels,
        "folder": labels.astype(np.int32),
    }
    folders = [f"n{label:08}" for label in range(CLASSES)]
    return Part(Table(columns, [str(label) for label in range(CLASSES)], folders), len(numbers), {})


def digits(text: NDArray[np.uint8], end: int, values: NDArray[np.int64]) -> None:
    """Write numbers into rows of text, ending before column ``end``."""
    for place in range(8):
        text[:, end - 1 - place] = ord("0") + values // 10**place % 10


def measure_opening(folder: Path, workers: int) -> None:
    """In a process of its own, as memory is counted from its start."""
    before = memory("Rss")
    began = time.perf_counter()
    source = open_source(folder, "train", labeled=True)
    took, after = time.perf_counter() - began, memory("Rss")
    print(
        f"opened in {took:.2f} s, {after - before:,.0f} MiB more resident "
        f"({memory('Private_Dirty'):,.0f} MiB of the process its own); sent to a worker as "
        f"{len(pickle.dumps(source)) / 2**20:.2f} MiB"
    )
    alone = memory("Pss")
    readers, writers = zip(*(os.pipe() for _ in range(workers)), strict=True)
    hold = os.pipe()
    for number, writer in enumerate(writers):
        if os.fork() == 0:
            os.close(hold[1])
            rng = np.random.default_rng(number)
            for index in rng.integers(len(source), size=TOUCHED).tolist():
                source.stored(index)
            os.write(writer, b"looked")
            os.read(hold[0], 1)  # until all have looked, and the parent has counted
            os._exit(0)
    for reader in readers:
        os.read(reader, 6)
    together = memory("Pss") + sum(memory("Pss", child) for child in children())
    print(
        f"{workers} forked workers that looked up {TOUCHED:,} images each: {together:,.0f} MiB in "
        f"all processes, {(together - alone) / workers:,.0f} MiB for each worker"
    )
    os.close(hold[1])
    for _ in range(workers):
        os.wait()


def memory(what: str, process: int | str = "self") -> float:
    """MiB of a process, as the kernel counts them."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return (
        int(next(line for line in text.splitlines() if line.startswith(f"{what}:")).split()[1])
        / 1024
    )


def children() -> list[int]:
    return [
        int(child)
        for child in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    ]


def measure_shuffling(images: int, block: int, ranks: int) -> None:
    """The order of an epoch, and whether all processes together have each image once."""
    for name, blocks in (("of everything", None), ("by blocks", Blocks(block))):
        began = time.perf_counter()
        shuffled(images, 0, 0, blocks)
        took = time.perf_counter() - began
        counts = np.zeros(images, np.uint8)
        for rank in range(ranks):
            sampler = ResumableBatchSampler(
                images, 64, train=True, rank=rank, world_size=ranks, blocks=blocks
            )
            for batch in sampler:
                counts[batch] += 1
        once, twice = int((counts == 1).sum()), int((counts > 1).sum())
        print(
            f"shuffling {name}: {took:.2f} s an epoch; on {ranks} processes {once:,} images once, "
            f"{twice} more often, {images - once - twice:,} left out (less than a step of "
            f"{64 * ranks:,})"
        )


if __name__ == "__main__":
    main()
