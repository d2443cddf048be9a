"""The screen: characters that it lacks and readers that go away end no command."""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator

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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
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
    dropped = False
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            dropped = True
        except (OSError, ValueError):  # a full disk is for others to say; a closed one is closed
            continue
    return dropped
