"""Ctrl-C, SIGTERM and their like while a command starts or measures, outside of training."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mgd_ssl.process import stop_signals
from mgd_ssl.streams import drop_closed


class Stopped(KeyboardInterrupt):
    """A signal asks the program to end; no code may take it for an error."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first signal that asks to stop raises `Stopped`; the next one kills."""
    if threading.current_thread() is not threading.main_thread():  # where Python gets no signal
        yield
        return
    before = {signum: signal.signal(signum, _stop) for signum in stop_signals()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, _or_default(handler))


def _stop(signum: int, _: FrameType | None) -> None:
    for each in stop_signals():
        signal.signal(each, signal.SIG_DFL)
    if signum == signal.SIGHUP:  # the terminal may be gone, and a line to it would fail
        drop_closed()
    raise Stopped(signum)


def _or_default(handler: Any) -> Any:
    return signal.SIG_DFL if handler is None else handler
