"""Commands in other processes that are forked from one in which torch is loaded.

A process that starts anew imports for five seconds of a core before its first step. Tests of what a
run does when it is killed, or shared by two processes, need none of that.
"""

import atexit
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
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
ROOT = Path(__file__).parents[2]


def killed_in_step(step: int, command: str, argv: Sequence[str]) -> None:
    """Run a command that SIGKILL ends in a step of its run, counted from 1, before the update."""
    _ended([-signal.SIGKILL], [(command, [*argv], {}, partial(_kill_in, "step", step))])


def killed_in_save(name: str, save: int, command: str, argv: Sequence[str]) -> None:
    """Run a command that SIGKILL ends as a file was written and is to get its name.

    Args:
        name: of the file.
        save: how often the run will then have written it.
        command: its name.
        argv: its arguments.
    """
    _ended([-signal.SIGKILL], [(command, [*argv], {}, partial(_kill_in, name, save))])


def signalled(
    signum: signal.Signals, when: Callable[[], bool], command: str, argv: Sequence[str]
) -> tuple[int, str]:
    """Run a command that gets a signal once ``when()`` holds; its exit status, and what it said."""
    with tempfile.NamedTemporaryFile() as said:
        process = SERVER.Process(target=_run, args=(said.name, command, [*argv], {}, None))
        process.start()
        while process.is_alive() and not when():
            time.sleep(0.005)
        assert process.pid
        os.kill(process.pid, signum)
        process.join(PATIENCE)
        return process.exitcode or 0, Path(said.name).read_text()


class Session:
    """A command in a process of its own session, as `subprocess.Popen` of its script would be.

    Processes that it starts do start anew, by its script's name and its arguments.
    """

    def __init__(self, script: str, *argv: str) -> None:
        listening, said = SERVER.Pipe(duplex=False)
        self._process = SERVER.Process(target=_lead, args=(said, [script, *argv]))
        self._process.start()
        said.close()
        assert self._process.pid
        self.pid = self._process.pid
        self.stdout = os.fdopen(os.dup(listening.fileno()))
        listening.close()

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, None]:
        """All else that it and its children say, once they have ended."""
        until, rest = time.monotonic() + timeout, self.stdout.read()
        self._process.join(max(0.0, until - time.monotonic()))
        return rest, None

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()


def _lead(said: Connection, words: list[str]) -> None:
    os.setsid()
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    said.close()
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
    sys.argv[:] = words
    os.chdir(ROOT)
    set_start_method(None, force=True)  # see `_run`
    name = Path(words[0]).stem
    try:
        status = import_module(f"mgd_ssl.commands.{name}").main()
    finally:
        atexit._run_exitfuncs()  # which such a process leaves out
    sys.exit(status)


def run_on_two(
    command: str, argv: Sequence[str], prepare: Callable[[], object] | None = None, status: int = 0
) -> str:
    """Run a command on two processes, which find each other as those that it starts itself do.

    Args:
        command: its name.
        argv: its arguments.
        prepare: called in each process before.
        status: that both are to end with.

    Returns:
        What both said.
    """
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(main_port(free_if_unset=True))}
    both = meeting | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0"}
    places = [both | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return _ended([status] * 2, [(command, [*argv], place, prepare) for place in places])


def called_apart(function: Callable[[list[str]], object], words: list[str]) -> str:
    """Call a function of a module in a process of its own; what it said."""
    return _ended([0], [(function, words, {}, None)])


def run_ranks(run_rank: Callable[[int, str], object], folder: Path) -> None:
    """Call a function with a rank and a folder in two processes."""
    start_processes(run_rank, (str(folder),), nprocs=2, start_method="forkserver")


def _ended(expected: list[int], jobs: Sequence[tuple[Any, ...]]) -> str:
    with tempfile.NamedTemporaryFile() as said:
        processes = [SERVER.Process(target=_run, args=(said.name, *job)) for job in jobs]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
            process.kill()
            process.join()
        text = Path(said.name).read_text()
        assert [process.exitcode for process in processes] == expected, text
        return text


def _run(
    said: str,
    command: str | Callable[[list[str]], object],
    argv: list[str],
    environment: Mapping[str, str],
    prepare: Callable[[], object] | None,
) -> None:
    with open(said, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ |= environment
    set_start_method(None, force=True)  # for decoding processes, as in a process that starts anew
    if prepare:
        prepare()
    if isinstance(command, str):
        command = import_module(f"mgd_ssl.commands.{command}").main
    sys.exit(command(argv))


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
