"""Ctrl-C and SIGTERM while a command starts or measures; a training step answers them itself."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asks the program to end; no code may take it for an error."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM raises `Stopped`; the next one kills."""
    if threading.current_thread() is not threading.main_thread():  # where Python gets no signal
        yield
        return
    before = {signum: signal.signal(signum, _stop) for signum in STOPS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, _or_default(handler))


def _stop(signum: int, _: FrameType | None) -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(signum)


def _or_default(handler: Any) -> Any:
    return signal.SIG_DFL if handler is None else handler
