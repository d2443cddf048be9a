"""How far long work has come: a bar on a terminal, elsewhere a line of the log now and then."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from mgd_ssl import distributed
from mgd_ssl.screen import NOT_ON_TERMINAL, console

T = TypeVar("T")
AnyBatch = TypeVar("AnyBatch", bound=Any)  # with ``images``
logger = logging.getLogger("mgd_ssl")
FIRST, EVERY = 10.0, 30.0  # seconds before the first line of the log, and between two
LONGEST_TRIED = 20.0  # seconds that a measurement of the speed takes, if it can
SHOWN_AFTER, REDRAWN = 1.0, 0.1  # seconds before a bar is drawn, and between two drawings
TEXTS, LONGEST_BAR, SHORTEST_BAR = 62, 40, 8  # columns
_bars: list[Bars] = []  # those on the screen: one, or none


def tracked(
    items: Iterable[T],
    what: str,
    total: int | None = None,
    unit: str = "images",
    count: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """The items, whose number is shown as they are taken.

    Args:
        items: what is worked through.
        what: the work, in words.
        total: the sum of all counts; None where it is not known.
        unit: what is counted.
        count: how much an item adds.
    """
    progress = Progress(what, total, unit)
    try:
        for item in items:
            yield item
            progress.advance(count(item))
    finally:
        progress.close()


def steady_rate(done: Iterable[int], ahead: int, least: int) -> float:
    """Images a second, once the batches that were decoded ahead are used up.

    Args:
        done: the images of each batch, as they are done.
        ahead: batches that are decoded ahead. Of slow ones not all are used up: `LONGEST_TRIED`
            ends the measurement.
        least: batches that are timed, where there are so many; the first third warms up.
    """
    began = time.perf_counter()
    counts, ends = list[int](), list[float]()
    for count in done:
        counts.append(count)
        ends.append(time.perf_counter())
        is_late = ends[-1] - began > LONGEST_TRIED
        if len(counts) >= ahead + least or (is_late and len(counts) >= least):
            break
    warm = least // 3
    skipped = next((n for n in (max(ahead, warm), warm) if len(counts) > n), 0)
    started = ends[skipped - 1] if skipped else began
    return sum(counts[skipped:]) / max(ends[-1] - started, 1e-9)


def tracked_batches(loader: Iterable[AnyBatch], what: str) -> Iterator[AnyBatch]:
    """A loader's batches, whose images are counted for all processes as they are taken."""
    guard, processes = getattr(loader, "guard", None), distributed.world_size()
    total = len(guard.source) if guard else None
    return tracked(loader, what, total, count=lambda batch: len(batch.images) * processes)


class Progress:
    """The progress of one piece of work; the first process shows it, where a command runs.

    On a terminal all that is in progress is drawn below the log. A bar appears after a second and
    goes away at the end.

    Args:
        what: the work, in words.
        total: how much there is; None where it is not known.
        unit: what is counted.
        logged: whether a log that is no terminal gets lines.
    """

    def __init__(
        self, what: str, total: int | None = None, unit: str = "images", logged: bool = True
    ) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._began = time.monotonic()
        self._next = self._began + (SHOWN_AFTER if console.is_terminal else FIRST)
        speaks = distributed.launched_rank() == 0 and bool(logger.handlers)
        self._silent = not speaks or not (logged or console.is_terminal)
        self._task: TaskID | None = None

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count on, and show it where that is due.

        Args:
            count: what was done since the last call.
            note: shown in place of speed and time left.
        """
        self.done += count
        now = time.monotonic()
        if self._silent or now < self._next:
            return
        if console.is_terminal:
            self._draw(note or self.pace(now))
        else:
            text = f"{self.what}: {self._amount()}, {note or self.pace(now)}"
            logger.info("%s", text, extra=NOT_ON_TERMINAL)
        self._next = now + (REDRAWN if console.is_terminal else EVERY)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._task is None or not _bars:
            return
        _bars[0].remove_task(self._task)
        self._task = None
        if not _bars[0].tasks:
            clear()

    def pace(self, now: float) -> str:
        """Speed and time left, in words."""
        rate = self.done / max(now - self._began, 1e-9)
        left = (self.total or 0) - self.done
        more = f", {format_duration(left / rate)} left" if left > 0 and rate else ""
        return f"{format_speed(rate, self.unit)}{more}"

    def _amount(self) -> str:
        return f"{self.done:,}" + (f"/{self.total:,}" if self.total else "") + f" {self.unit}"

    def _draw(self, note: str) -> None:
        if not _bars:
            _bars.append(_new_bars())
            _bars[0].start()
        if self._task is None:
            self._task = _bars[0].add_task(self.what, total=self.total, amount="", note="")
        _bars[0].update(
            self._task,
            completed=self.done,
            description=self.what,
            amount=self._amount(),
            note=note,
        )
        _bars[0].refresh()


def clear() -> None:
    """Take all bars off the screen, as before the message of an error."""
    while _bars:
        _bars.pop().stop()


def _new_bars() -> Bars:
    """Bars that are redrawn as work goes on, without a thread of their own."""
    texts = [
        TextColumn(f"{{task.{field}}}", markup=False)
        for field in ("description", "fields[amount]", "fields[note]")
    ]
    width = min(console.width - TEXTS, LONGEST_BAR)
    columns = [texts[0], BarColumn(width), *texts[1:]] if width >= SHORTEST_BAR else texts
    return Bars(*columns, console=console, transient=True, auto_refresh=False)


def format_speed(rate: float, unit: str = "images") -> str:
    """``813 images/s``, or ``2.4 images/s`` below ten."""
    return f"{rate:.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


def format_duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
