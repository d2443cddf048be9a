"""What commands print: errors without a traceback, and the plan of a run."""

import os
import signal
import sys
from collections.abc import Callable, Sequence

from rich.table import Table
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.commands.failures import again, await_turn, explained
from mgd_ssl.commands.launch import end_children
from mgd_ssl.commands.signals import stoppable
from mgd_ssl.models import FeatureReader, Taps
from mgd_ssl.stages import Stage
from mgd_ssl.streams import CLOSED, drop_closed, tolerant_streams
from mgd_ssl.training.logging import console, logger
from mgd_ssl.training.loop import Interrupted

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
        with stoppable():
            run()
    except KeyboardInterrupt as stop:
        if distributed.launched_rank() == 0:
            print("interrupted", file=sys.stderr)
        end_children()
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except Interrupted as stop:
        logger.info("%s. Go on with: %s", stop, again(command, argv))
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


def print_plan(
    stages: Sequence[Stage],
    teacher: nn.Module,
    teacher_reader: FeatureReader,
    student_reader: FeatureReader,
    *,
    expands: bool = False,
) -> None:
    """Print what is matched to what: modules, channels, sides, groups, margins, warnings."""
    table = Table(title="Stages")
    for heading in ("stage", "student", "teacher", "channels", "side", "group", "margin from", ""):
        table.add_column(heading, overflow="fold")
    norms = {module: name for name, module in teacher.named_modules()}
    for stage, norm in zip(stages, teacher_reader.norms(teacher), strict=True):
        table.add_row(
            f"{stage.index} {stage.name}",
            _module(student_reader, stage.index),
            _module(teacher_reader, stage.index),
            f"{stage.student_channels} <- {stage.teacher_channels}",
            f"{stage.side[0]}×{stage.side[1]}" if stage.side else "",
            "" if stage.ignored else "1, expanded" if expands else _group(stage),
            "" if stage.ignored or norm is None else norms.get(norm, type(norm).__name__),
            "; ".join(stage.warnings),
        )
    console.print(table)


def _group(stage: Stage) -> str:
    whole, rest = divmod(stage.teacher_channels, stage.student_channels)
    return f"{whole}–{whole + 1}" if rest else str(whole)


def _module(reader: FeatureReader, index: int) -> str:
    if not isinstance(reader, Taps):
        return "extract_feature"
    tap = reader.taps[index]
    return f"{tap.module} input" if tap.read == "last_input" else tap.module
