"""Fair comparisons: warmed up, in turn in one run, median and spread of the ratios."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


def describe(threads: int, repeats: int) -> None:
    """Set the threads and print all that the figures depend on."""
    torch.set_num_threads(threads)
    print(
        f"{processor()}, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"torch {torch.__version__}; {threads} threads, {repeats} repeats"
    )


def processor() -> str:
    """Name of the processor, and the number of its cores."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((x.split(": ")[1] for x in cpus if x.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores"


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


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    timed: Callable[[Callable[[], object]], float] = cpu_clock,
) -> list[dict[str, float]]:
    """Seconds of each call in each repeat: one after the other, after a warm-up of all."""
    for call in calls.values():
        call()
    return [{name: timed(call) for name, call in calls.items()} for _ in range(repeats)]


def spread(ratios: Sequence[float], unit: str = "", width: int = 0) -> str:
    """``1.13 times (1.08 to 1.15)``: the median, what it is of, the least and the greatest."""
    middle = f"{statistics.median(ratios):.2f}".rjust(width)
    return f"{middle}{unit} ({min(ratios):.2f} to {max(ratios):.2f})"


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object], n: int) -> None:
    """Print the median and the spread of plain / ours, measured in turn after a warm-up."""
    rows = in_turn({"plain": plain, "ours": ours}, n, clock)
    a, b = (1000 * statistics.median(row[version] for row in rows) for version in rows[0])
    ratios = spread([row["plain"] / row["ours"] for row in rows], " times", width=6)
    print(f"{name:<28} plain {a:8.1f} ms  ours {b:8.1f} ms  {ratios}")


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
