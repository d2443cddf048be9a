"""The processes of a run on this machine: each watches the others, and none outlives the run."""

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache

from mgd_ssl.training.rendezvous import main_port

# A lost process is noticed by the next exchange with it; where none comes, after these seconds.
NOTICE, LOOK_EVERY, LAST_WORDS = 6.0, 0.5, 30.0
CHILDREN: dict[int, "subprocess.Popen[bytes]"] = {}


def launch(processes: int, nodes: int) -> None:
    """Start this machine's other processes with this one's command line; each knows its rank."""
    port = main_port(free_if_unset=nodes == 1)
    node = int(os.environ.get("NODE_RANK", "0"))
    os.environ |= {
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes * nodes),
        "LOCAL_WORLD_SIZE": str(processes),
        "NODE_RANK": str(node),
    }
    os.environ |= _place(0, node * processes)
    atexit.register(end_children, LAST_WORDS)
    for i in range(1, processes):
        environment = os.environ | _place(i, node * processes + i)
        CHILDREN[i] = subprocess.Popen(_command(), env=environment)
    threading.Thread(target=_watch_children, daemon=True).start()


@cache  # once, however many commands a program runs
def watch_parent() -> None:
    """Let a process that `launch` started end where the one that started it is gone."""
    if os.environ.get("LOCAL_RANK", "0") != "0" and os.environ.get("MGD_SSL_PARENT"):
        parent = int(os.environ["MGD_SSL_PARENT"])
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def lost(patience: float = NOTICE) -> str:
    """Which process of the run ended first and how, as far as this one can tell."""
    until = time.monotonic() + patience
    while CHILDREN and time.monotonic() < until:
        for i, child in list(CHILDREN.items()):  # which ends meanwhile
            if child.poll():
                return f"process {i} of {len(CHILDREN) + 1} {_how(child.returncode)}"
        time.sleep(0.1)
    return "another process of this run ended"


def end_children(patience: float = 0.0) -> None:
    """End the processes that `launch` started, after some seconds in which they may by themselves.

    They are waited for, so that nothing is left behind.
    """
    until = time.monotonic() + patience
    while CHILDREN:
        _, child = CHILDREN.popitem()
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _place(local: int, rank: int) -> dict[str, str]:
    return {"LOCAL_RANK": str(local), "RANK": str(rank), "MGD_SSL_PARENT": str(os.getpid())}


def _command() -> list[str]:
    """What started this process."""
    main = sys.modules["__main__"]
    if main.__spec__ is None:
        return [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
    return [sys.executable, "-m", main.__spec__.name, *sys.argv[1:]]


def _how(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed, by hand or by the system for want of memory"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}; what it said stands above"


def _watch_children() -> None:
    """End this process where a child failed, and it hangs on in an exchange that never ends."""
    while CHILDREN:
        time.sleep(LOOK_EVERY)
        if any(child.poll() for child in list(CHILDREN.values())):
            time.sleep(NOTICE)
            if CHILDREN:  # nobody has noticed
                _give_up(lost())


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    time.sleep(NOTICE)
    _give_up("the first process of this run ended")


def _give_up(reason: str) -> None:
    print(f"error: {reason}; go on with --resume", file=sys.stderr, flush=True)
    for child in list(CHILDREN.values()):
        child.kill()
    os._exit(1)
