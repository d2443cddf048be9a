"""Ends of a run that a command answers; known before torch loads."""

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
