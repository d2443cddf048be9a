"""This process: the cores it may use, threads that sleep while they wait, memory that is kept.

Loads no torch, so that it can act before torch does.
"""

import ctypes
import math
import os
import signal
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import TracebackType

CGROUP = Path("/sys/fs/cgroup")
# glibc's <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
# Ctrl-C, kill and batch systems, a terminal that closes, a batch system's early warning
STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
NEVER, STEP = -1, 64 * 2**20


def prepare() -> None:
    """Do all that is due at a program's start, before torch loads."""
    interrupt_quietly()
    let_waiting_threads_sleep()
    keep_memory()


def interrupt_quietly() -> None:
    """Let Ctrl-C outside of a command, while it is imported above all, end with one line."""
    shown = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        else:
            shown(kind, error, trace)

    sys.excepthook = show


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a program to end; one that nohup told it to ignore is none."""
    there = [signal.Signals[name] for name in STOPS if hasattr(signal, name)]
    return [s for s in there if s == signal.SIGINT or signal.getsignal(s) is not signal.SIG_IGN]


def let_waiting_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell OpenMP not to spin where a thread waits; what the user set of it stays.

    A thread that spins takes a core from whatever else runs, the thread it waits for among it.
    OpenMP reads this as it is loaded, and child processes inherit it: call it before torch loads.
    """
    if not any(name in environment for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        environment.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0")


def keep_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let glibc keep the memory that a step gives back, for the next step; whether it does.

    Large tensors are otherwise mapped anew, and zeroed page by page by the kernel, at each step:
    half of a step's time on the CPU. Another allocator than glibc's, and one that the user set
    (``MALLOC_…`` or ``GLIBC_TUNABLES``), is left alone.
    """
    chosen = any(name.startswith("MALLOC_") for name in environment)
    if chosen or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    if not sys.platform.startswith("linux") or not hasattr(os, "confstr"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: STEP}
    return all(library.mallopt(name, value) for name, value in settings.items())


def cores() -> int:
    """Cores that this process may use: of its affinity, and of its container's share of time."""
    available = getattr(os, "sched_getaffinity", None)
    allowed = len(available(0)) if available else os.cpu_count() or 1
    return max(1, int(min(allowed, cpu_quota())))


def local_processes() -> int:
    """Processes of this run on this machine, as whoever started them says."""
    told = os.environ.get("LOCAL_WORLD_SIZE")
    if told is None and started_by_srun():
        told = os.environ.get("SLURM_NTASKS_PER_NODE")
    return max(1, int(told or "1"))


def started_by_srun() -> bool:
    """Whether this is one of several tasks of srun; a shell or a script in an allocation is not."""
    tasks, step = os.environ.get("SLURM_NTASKS", "1"), os.environ.get("SLURM_STEP_ID", "")
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return False
    # SLURM numbers the shell of an allocation and the batch script as steps too, from the top
    numbered = step.isdigit() and int(step) < 2**32 - 16
    return numbered and int(tasks) > 1 and "SLURM_PROCID" in os.environ


def cpu_quota(root: Path = CGROUP, groups: Path = Path("/proc/self/cgroup")) -> float:
    """Cores' worth of time that control groups, of version 1 or 2, grant; infinite without one."""
    return min([math.inf, *map(_quota, group_folders("cpu", root, groups))])


def group_folders(
    controller: str, root: Path = CGROUP, groups: Path = Path("/proc/self/cgroup")
) -> list[Path]:
    """Folders of this process's control groups, of version 1 or 2, and of those above them."""
    found = list[Path]()
    for line in read_or_empty(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            found += _folders(root / controller if controllers else root, path)
    return found


def _folders(top: Path, path: str) -> list[Path]:
    """A group's folder and those above it; a container sees its own as the topmost."""
    here = top / path.lstrip("/")
    return [here, *(p for p in here.parents if p == top or top in p.parents)]


def _quota(folder: Path) -> float:
    """Cores that one group grants."""
    words = read_or_empty(folder / "cpu.max").split()  # version 2
    if not words:
        words = [
            read_or_empty(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max", or no such file
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def read_or_empty(path: Path) -> str:
    """Text of a file; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def told_rank() -> int:
    """This process's rank among those of the run, as whoever started it says; 0 for one alone."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0")
