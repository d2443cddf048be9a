"""The screen: characters that it lacks and readers that go away end no command."""

import codecs
import contextlib
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

CLOSED = 141  # status of a program whose reader went away, 128 + SIGPIPE
PLAIN = str.maketrans("×–−·→±│─╭╮╰╯├┤", "x--.>~|-++++++") | {ord("…"): "..."}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: a likeness, or their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("mgd_ssl.spell", _spell)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[None]:
    """Print whatever the screen's encoding, and end quietly where its reader is gone.

    Raises:
        SystemExit: the reader of what was printed is gone, as ``head`` goes.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, or a program without a screen
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="mgd_ssl.spell")
    try:
        yield
    except BrokenPipeError as error:
        if drop_closed():
            raise SystemExit(CLOSED) from error
        raise
    finally:
        drop_closed()


def drop_closed() -> bool:
    """Send nowhere what has no reader, or Python complains of it as it ends; whether it was so."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _lacks_reader(stream)]
    for stream in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def _lacks_reader(stream: TextIO) -> bool:
    """Whether a stream goes to a pipe whose other end is closed."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # no file behind it, as in a notebook; or closed
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
