"""Errors of a command, without a traceback, and its exit status."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from mgd_ssl.commands.failures import again, await_turn, explained
from mgd_ssl.commands.signals import stoppable
from mgd_ssl.errors import Interrupted
from mgd_ssl.process import told_rank
from mgd_ssl.streams import CLOSED, drop_closed, tolerant_streams

TRACEBACK = "MGD_SSL_TRACEBACK"


def guarded(run: Callable[[], object], command: str = "", argv: Sequence[str] | None = None) -> int:
    """Run a command; errors that a user can mend become one message and a non-zero status.

    With MGD_SSL_TRACEBACK=1 in the environment they keep their traceback.

    Args:
        run: the command.
        command: its name under ``mgd-ssl``.
        argv: its arguments, where a program gave them; None for those of the command line.
    """
    with tolerant_streams():
        try:
            return _status(run, command, argv)
        except BaseException:
            end_children()
            raise


def _status(run: Callable[[], object], command: str, argv: Sequence[str] | None) -> int:
    try:
        with stoppable(), no_bars_left(), left_together():
            run()
    except KeyboardInterrupt as stop:
        if told_rank() == 0:
            print("interrupted", file=sys.stderr)
        end_children()
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except Interrupted as stop:
        from mgd_ssl.screen import UNBROKEN  # loads rich

        resumed = again(command, argv)
        logging.getLogger("mgd_ssl").info("%s. Resume with: %s", stop, resumed, extra=UNBROKEN)
        return 128 + stop.signum
    except Exception as error:
        if isinstance(error, BrokenPipeError) and drop_closed():
            return CLOSED
        message = explained(error)
        if message is None or os.environ.get(TRACEBACK):
            raise
        await_turn(error)
        print(f"error: {message}", file=sys.stderr)
        end_children()
        return 1
    return 0


@contextlib.contextmanager
def no_bars_left() -> Iterator[None]:
    """Take what shows progress off the screen, before any message."""
    try:
        yield
    finally:
        progress = sys.modules.get("mgd_ssl.progress")
        if progress is not None:
            progress.clear()


@contextlib.contextmanager
def left_together() -> Iterator[None]:
    """Let processes that end alike, done or stopped, end together.

    One that ended before the first has closed its loggers would be taken for lost.
    """
    try:
        yield
    except Interrupted:
        leave_group()
        raise
    leave_group()


def leave_group() -> None:
    """Leave the group of processes; there is none before a run starts."""
    distributed = sys.modules.get("mgd_ssl.distributed")
    if distributed is not None:
        distributed.leave()


def end_children() -> None:
    """End the other processes that this one started; there are none before a run starts."""
    launch = sys.modules.get("mgd_ssl.training.launch")
    if launch is not None:
        launch.end_children()
