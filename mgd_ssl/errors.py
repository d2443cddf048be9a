"""Errors that a command answers; known before torch loads."""

import signal


class Interrupted(Exception):  # noqa: N818
    """A signal stopped the run between two steps; a checkpoint holds all steps taken.

    Args:
        signum: the signal.
        begun: whether a step was taken.
    """

    def __init__(self, signum: int, *, begun: bool) -> None:
        when = "after a checkpoint" if begun else "before the first step"
        super().__init__(f"stopped by {signal.Signals(signum).name} {when}")
        self.signum = signum


class NonFiniteLossError(RuntimeError):
    """A loss is NaN or infinite."""


class WorkerError(ValueError):
    """An error that reads the same where a decoding process sends it."""

    def __init__(self, message: str) -> None:
        # a loader raises a worker's error again with the worker's traceback before the message
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].rstrip())
