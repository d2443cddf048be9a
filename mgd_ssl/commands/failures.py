"""Failures that a user can mend, each as one message; any other keeps its traceback."""

import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mgd_ssl.errors import NonFiniteLossError
from mgd_ssl.process import started_by_srun, told_rank

# The first process speaks at once; another only where the first has not ended the run meanwhile.
TURN, TURN_OF_SURVIVORS = 3.0, 8.0
WORKER = re.compile(
    r"DataLoader worker \(pid.*?\) (is killed by signal: [\w ]+|exited unexpectedly)"
)
FULL = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory")
PEER = ("closed by peer", "reset by peer", "gloo", "Broken pipe", "process group")


def explained(error: Exception) -> str | None:
    """What to say of an error, or None where it is a fault of the program."""
    if isinstance(error, NonFiniteLossError | ValueError):
        return str(error)
    text = str(error)
    if found := WORKER.search(text):
        return (
            f"a decoding process {found[1]}: by hand, or for want of memory or of shared memory; "
            "give fewer decoding processes with -j, or a smaller --batch-size"
        )
    if isinstance(error, MemoryError) or any(word in text for word in FULL):
        return f"out of memory: {text.splitlines()[0] if text else 'on the CPU'}; give a smaller -b"
    if is_lost(error):
        from mgd_ssl.training.launch import lost

        return f"{lost()}; go on with --resume once that is mended"
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        return denied(Path(error.filename)) or text
    return text if isinstance(error, OSError) else None


def denied(path: Path) -> str | None:
    """What to say of a path that this user may not read, or of the folder that hides it."""
    outside_in = filter(os.path.lexists, [*reversed(path.parents), path])
    modes = ((one, os.R_OK | os.X_OK if one.is_dir() else os.R_OK) for one in outside_in)
    hidden = next((one for one, mode in modes if not os.access(one, mode)), None)
    if hidden is None:
        return None
    return (
        f"got {hidden}, which this user may not read; expected files and folders that can be read; "
        "change their permissions (chmod -R u+rX), or leave them out"
    )


def is_lost(error: Exception) -> bool:
    """Whether an exchange failed since another process of the run is gone."""
    if "torch" not in sys.modules:  # nothing was exchanged yet
        return False
    import torch.distributed as dist

    from mgd_ssl import distributed

    if distributed.world_size() == 1:
        return isinstance(error, dist.DistError)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in PEER)
    )


def await_turn(error: Exception) -> None:
    """Let the first process speak for all; others speak where it does not end the run."""
    if told_rank() and not _orphaned():
        time.sleep(TURN_OF_SURVIVORS if is_lost(error) else TURN)


def _orphaned() -> bool:
    parent = os.environ.get("MGD_SSL_PARENT")
    return parent is not None and os.getppid() != int(parent)


def again(command: str, argv: Sequence[str] | None) -> str:
    """The command line that goes on with a run, as it was started.

    Args:
        command: of ``mgd-ssl``, which is named where a program gave the arguments itself.
        argv: what it gave, or None.
    """
    typed = argv is None or list(argv) == sys.argv[len(sys.argv) - len(argv) :]
    words = sys.argv[1:] if argv is None or typed else list(argv)
    rest = [word for word in words if word not in ("--resume", "--overwrite")]
    start = _program() if typed else ["python", "-m", "mgd_ssl", command]
    return shlex.join(
        [*_launcher(start[0] == "python"), *start[_skipped(start) :], *rest, "--resume"]
    )


def _program() -> list[str]:
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return ["python", "-m", script.parent.name]
    return [script.name] if script.name == "mgd-ssl" else ["python", sys.argv[0]]


def _launcher(python: bool) -> list[str]:
    """What started the processes, with what the environment tells of its options."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
        several = [f"--nnodes={nodes}"] if nodes != "1" else []
        kind = [] if python else ["--no-python"]
        return ["torchrun", *several, f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']}", *kind]
    return ["srun"] if started_by_srun() else []


def _skipped(start: Sequence[str]) -> int:
    """Torchrun starts Python itself."""
    return 1 if "TORCHELASTIC_RUN_ID" in os.environ and start[0] == "python" else 0
