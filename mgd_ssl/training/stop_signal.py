"""Signals that ask a run to stop: noted, and answered between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from mgd_ssl import distributed
from mgd_ssl.process import stop_signals
from mgd_ssl.streams import drop_closed
from mgd_ssl.training.logging import logger

AGREE_EVERY = 10


class StopNow(BaseException):
    """A stop is answered where no step is taken; no code may take it for an error."""


class StopSignal:
    """Notes the signals that ask to stop instead of dying of them; a second one kills as usual."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}
        self._raises, self._unsaid = False, ""

    def __enter__(self) -> "StopSignal":
        for signum in stop_signals():
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signum, self._before[signum])
        if signum == signal.SIGHUP:  # the terminal may be gone, and a line to it would fail
            drop_closed()
        if self._raises:
            raise StopNow
        self._unsaid = signal.Signals(signum).name  # a line may be half written now

    def _say(self) -> None:
        """Say a signal that was noted where no line could be written."""
        if self._unsaid:
            logger.info("%s: stopping after this step", self._unsaid)
            self._unsaid = ""

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, where no step is taken, a signal does not wait, if this is the only process.

        What is done inside must leave the run as it was where it is broken off.

        Raises:
            StopNow: a signal came, inside or before.
        """
        self._raises = distributed.world_size() == 1
        try:
            self._say()
            if self._raises and self.signum:
                raise StopNow
            yield
        finally:
            self._raises = False

    def agreed(self, step: int, steps: int) -> bool:
        """Whether to stop; several processes compare notes every 10 steps and at the last.

        A signal that was noted in the step is said now.
        """
        self._say()
        if distributed.world_size() == 1:
            return self.signum is not None
        if (step + 1) % AGREE_EVERY and step + 1 != steps:
            return False
        noted = torch.tensor(int(self.signum is not None), device=distributed.collective_device())
        return bool(distributed.all_reduce_sum(noted))
