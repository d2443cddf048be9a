"""Fair comparisons: warmed up, in turn in one run, median and spread of the ratios."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def describe(threads: int, repeats: int) -> None:
    """Set the threads and print all that the figures depend on."""
    torch.set_num_threads(threads)
    cpus = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((x.split(": ")[1] for x in cpus if x.startswith("model name")), platform.machine())
    print(
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}, torch {torch.__version__}; {threads} threads, "
        f"{repeats} repeats"
    )


def clock(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cpu_clock(run: Callable[[], object]) -> float:
    """CPU seconds of this process in a call, which other work on the machine disturbs least."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object], n: int) -> None:
    """Print the median and the spread of plain / ours, measured in turn after a warm-up."""
    plain(), ours()
    times = [(clock(plain), clock(ours)) for _ in range(n)]
    ratios = sorted(a / b for a, b in times)
    a, b = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    middle = statistics.median(ratios)
    print(f"{name:<28} plain {a:8.1f} ms  ours {b:8.1f} ms  {middle:6.2f} times ({spread})")


def extra_memory(run: Callable[[], object]) -> float:
    """MB by which a call raises this process's peak of resident memory (Linux).

    Call it in a fresh process: memory that an earlier call freed may be used again unseen.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _peak()
    run()
    return _peak() - before


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
