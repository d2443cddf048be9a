"""Commands in other processes that are forked from one in which torch is loaded.

A process that starts anew imports for five seconds of a core before its first step. Tests of what a
run does when it is killed, or shared by two processes, need none of that.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import Any

from torch.multiprocessing import start_processes

from mgd_ssl.training.rendezvous import main_port

SERVER = get_context("forkserver")
# the first says what must be said before torch loads; the others bring torch and the loops
SERVER.set_forkserver_preload(
    ["mgd_ssl.commands", "mgd_ssl.runs.pretrain", "mgd_ssl.runs.classify", "mgd_ssl.detection.run"]
)
PATIENCE = 300.0  # seconds


def killed_in_step(step: int, command: str, argv: Sequence[str]) -> None:
    """Run a command that SIGKILL ends in a step of its run, counted from 1, before the update."""
    _ended([-signal.SIGKILL], [(command, [*argv], {}, ("step", step))])


def killed_in_save(name: str, save: int, command: str, argv: Sequence[str]) -> None:
    """Run a command that SIGKILL ends as a file was written and is to get its name.

    Args:
        name: of the file.
        save: how often the run will then have written it.
        command: its name.
        argv: its arguments.
    """
    _ended([-signal.SIGKILL], [(command, [*argv], {}, (name, save))])


def run_on_two(command: str, argv: Sequence[str]) -> None:
    """Run a command on two processes, which find each other as those that it starts itself do."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(main_port(free_if_unset=True))}
    both = meeting | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0"}
    places = [both | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    _ended([0, 0], [(command, [*argv], place, None) for place in places])


def run_ranks(run_rank: Callable[[int, str], object], folder: Path) -> None:
    """Call a function with a rank and a folder in two processes."""
    start_processes(run_rank, (str(folder),), nprocs=2, start_method="forkserver")


def _ended(expected: list[int], jobs: Sequence[tuple[Any, ...]]) -> None:
    with tempfile.NamedTemporaryFile() as said:
        processes = [SERVER.Process(target=_run, args=(said.name, *job)) for job in jobs]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
            process.kill()
            process.join()
        assert [process.exitcode for process in processes] == expected, Path(said.name).read_text()


def _run(
    said: str,
    command: str,
    argv: list[str],
    environment: Mapping[str, str],
    kill: tuple[str, int] | None,
) -> None:
    with open(said, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ |= environment
    set_start_method(None, force=True)  # for decoding processes, as in a process that starts anew
    if kill:
        _kill_in(*kill)
    sys.exit(import_module(f"mgd_ssl.commands.{command}").main(argv))


def _kill_in(place: str, number: int) -> None:
    """Let this process end in its n-th step, or as it names a file for the n-th time."""
    from mgd_ssl.training.run import TrainingRun

    owner, method = (TrainingRun, "update") if place == "step" else (Path, "replace")
    original, counted = getattr(owner, method), iter(range(1, 10**6))

    def called(self: Any, *what: Any) -> Any:
        if (place == "step" or Path(*what).name == place) and next(counted) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *what)

    setattr(owner, method, called)
