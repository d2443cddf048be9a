"""The memory that a training step is estimated to need, beside what it takes.

Each case is a process of its own: the embedded images, three steps on one thread of the CPU. What
it takes is the growth of the largest resident set from before the first step on.

    python benchmarks/step_memory.py
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from timing import describe

from mgd_ssl.runs.pretrain import build
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.loop import Position
from mgd_ssl.training.memory import step_memory
from mgd_ssl.training.meter import peak_memory
from mgd_ssl.training.run_directory import RunDirectory

FULL = "--width 1 --stem imagenet"
CASES = (
    f"--method moco -a resnet18 --size 64 -b 64 --moco-k 4096 {FULL}",
    f"--method moco -a resnet50 --size 128 -b 32 --moco-k 4096 {FULL}",
    f"--method simsiam -a resnet18 --size 128 -b 64 {FULL}",
    "--method mgd-plus -b 256",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    if options.case is not None:
        return measure(CASES[options.case].split())
    describe(1, 1)
    for case in range(len(CASES)):
        command = [sys.executable, __file__, "--case", str(case)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return None


def measure(words: list[str]) -> None:
    """Print what one case needs, and what it takes."""
    torch.set_num_threads(1)
    common = ["--knn-every", "0", "--health-every", "0", "--limit", "600", "--accelerator", "cpu"]
    config = parse(PretrainConfig, "pretrain.py", [*words, *common])
    fabric = start_fabric(config.device)
    run = build(config, fabric)
    started = time.process_time()
    data = run.data
    memory = step_memory(run.task, run.optimizer, fabric, data.size or 0, data.views_per_image)
    need = memory.bytes_for(config.optim.batch_size or 0) / 2**30
    seconds, before = time.process_time() - started, peak_memory()
    run.module, run.optimizer = fabric.setup(run.task, run.optimizer)
    with tempfile.TemporaryDirectory() as folder:
        run.directory = RunDirectory(Path(folder))
        run.before_step(Position())
    for batch in islice(data.loader, 3):
        run.optimizer.zero_grad()
        fabric.backward(torch.stack([*run.step(batch).values()]).sum())
        run.optimizer.step()
    taken = peak_memory() - before
    print(
        f"{' '.join(words)}\n  estimated {need:.2f} GiB in {seconds:.2f} s, taken {taken:.2f}, "
        f"ratio {need / taken:.2f}"
    )


if __name__ == "__main__":
    main()
