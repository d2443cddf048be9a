"""What a run says: lines on the screen, metrics.jsonl, TensorBoard, train.log."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from torch.utils.tensorboard import SummaryWriter

from mgd_ssl import distributed
from mgd_ssl.files import write_text
from mgd_ssl.loggers import Loggers
from mgd_ssl.screen import FILE, SCREEN, TERMINAL, console

logger = logging.getLogger("mgd_ssl")


class _Early(logging.Handler):
    """Keeps what is said before a run has a directory, for its train.log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


def start_logging(path: Path | None = None) -> None:
    """Send the package's log to the screen, and to a file where a path is given.

    The file begins with what was said since the last call without a path.
    """
    early = [r for h in logger.handlers if isinstance(h, _Early) for r in h.records]
    logger.handlers.clear()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_screen())
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        file.addFilter(_lines_for(FILE))
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)
        for record in early:
            file.emit(record)
    else:
        logger.addHandler(_Early())


class _Terminal(RichHandler):
    """Wraps lines between words, but not those that are to be copied."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line."""
        if getattr(record, "unbroken", False):
            self.console.print(record.getMessage(), soft_wrap=True, highlight=False)
        else:
            super().emit(record)


def _screen() -> logging.Handler:
    """One process speaks for all; of another only its own undecodable images are worth a line."""
    screen: logging.Handler = logging.StreamHandler()
    if console.is_terminal:
        # train.log has the times; without them an epoch's line fits into 80 columns
        screen = _Terminal(
            console=console,
            show_path=False,
            show_level=False,
            show_time=False,
            highlighter=NullHighlighter(),  # the default one colors parts of numbers and names
            keywords=[],
        )
        screen.addFilter(_lines_for(TERMINAL))
    else:
        screen.addFilter(_lines_for(SCREEN))
        screen.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if distributed.launched_rank():
        screen.addFilter(logging.Filter("mgd_ssl.data.bad_files"))
    return screen


def _lines_for(place: str) -> Callable[[logging.LogRecord], bool]:
    """A filter that lets those lines through that are not kept from a place."""
    return lambda record: place not in getattr(record, "not_for", ())


class Writer(Protocol):
    """Takes rows of metrics."""

    def write(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write one row; ``step`` counts optimizer steps, ``epoch`` is 1-based."""


class MetricWriter:
    """Appends to metrics.jsonl and to TensorBoard's event file; on rank 0 alone.

    Args:
        directory: of the run.
        enabled: whether this rank writes.
        keep: steps that a resumed run has behind it; rows after them are dropped, since the run
            writes them again.
        others: the loggers of other projects, which get the same rows.
    """

    def __init__(
        self, directory: Path, enabled: bool = True, keep: int = 0, others: Loggers | None = None
    ) -> None:
        path = directory / "metrics.jsonl"
        if enabled and path.exists():
            _keep_rows(path, keep)
        self._file = path.open("a", encoding="utf-8") if enabled else None
        self._board = _board(directory, keep) if enabled else None
        self._others = others

    def write(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write one row; ``step`` counts optimizer steps, ``epoch`` is 1-based."""
        if self._file is None:
            return
        row = {"step": step, "epoch": epoch, "time": round(time.time(), 3), **metrics}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)
        if self._others:
            self._others.write(step, epoch, metrics)

    def close(self) -> None:
        """Flush both files, and end the others' runs."""
        for file in (self._file, self._board, self._others):
            if file:
                file.close()


def _board(directory: Path, keep: int) -> SummaryWriter | None:
    """TensorBoard's writer, which takes no path that is not UTF-8."""
    try:
        return SummaryWriter(str(directory), purge_step=keep + 1)
    except UnicodeEncodeError:
        logger.warning("%s: no file for TensorBoard, whose paths are UTF-8", directory)
        return None


def _keep_rows(path: Path, step: int) -> None:
    """Drop the rows after a step; the file is left alone where there are none."""
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [row for row in rows if _step_of(row) <= step]
    if kept != rows:
        write_text(path, "".join(kept))


def _step_of(row: str) -> float:
    """The step of a row; infinite where a killed run left half a row."""
    try:
        return float(json.loads(row)["step"])
    except (ValueError, KeyError):
        return float("inf")
