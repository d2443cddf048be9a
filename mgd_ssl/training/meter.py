"""What a run measures of itself: means of the losses, speed, memory; the non-finite alarm."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mgd_ssl import distributed
from mgd_ssl.errors import NonFiniteLossError
from mgd_ssl.progress import format_duration, format_speed
from mgd_ssl.screen import FILE_ONLY, NOT_ON_TERMINAL, SCREEN_ONLY
from mgd_ssl.training.alarms import ConstantLoss
from mgd_ssl.training.epoch_line import epoch_line
from mgd_ssl.training.logging import Writer, logger


@dataclass(frozen=True)
class LossSums:
    """Losses by name, summed over so many steps."""

    count: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """``train_loss``, the sum of all, and each of them."""
        means = {f"train_loss/{k}": v / max(self.count, 1) for k, v in self.losses.items()}
        return {"train_loss": sum(means.values()), **means}


class Sent:
    """Named losses on their way to the host, behind the step that computes them.

    Args:
        losses: scalars on one device.
    """

    def __init__(self, losses: Mapping[str, Tensor]) -> None:
        self._names = list(losses)
        stacked = torch.stack([loss.detach().float() for loss in losses.values()])
        self._numbers = stacked.to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if stacked.is_cuda else None
        if self._arrived:
            self._arrived.record()

    def values(self) -> dict[str, float]:
        """The losses; waits for this step, and not for what the device was given since."""
        if self._arrived:
            self._arrived.synchronize()
        return dict(zip(self._names, self._numbers.tolist(), strict=True))


class Meter:
    """Means of the losses, images a second, and the alarm on a non-finite loss.

    Losses are read one step late, on the way to the host since they were computed: reading them at
    once would stall the device at every step.
    """

    def __init__(self, epochs: int, steps: int, writer: Writer | None, optimizer: Any) -> None:
        self.epochs, self.steps, self.writer = epochs, steps, writer
        self.optimizer = optimizer
        self._constant = ConstantLoss(steps)
        self.restart()

    def restart(self, summed: LossSums = LossSums()) -> None:
        """Begin an epoch, or go on after the steps that were summed."""
        self._pending: tuple[int, int, Sent] | None = None
        self._sums = dict(summed.losses)
        self._count = summed.count
        self._images = self._steps = 0
        self._clock = self._last = time.perf_counter()

    def summed(self) -> LossSums:
        """What the epoch's means are of: the mean of all processes, each of which must ask.

        The losses that were added last are not read for it.
        """
        sums = torch.tensor(list(self._sums.values()), dtype=torch.float64)
        sums = distributed.all_reduce_sum(sums.to(distributed.collective_device()))
        means = (sums / distributed.world_size()).tolist()
        return LossSums(self._count, dict(zip(self._sums, means, strict=True)))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, no time counts towards the speed."""
        started = time.perf_counter()
        yield
        away = time.perf_counter() - started
        self._clock, self._last = self._clock + away, self._last + away

    def add(self, epoch: int, step: int, losses: Mapping[str, Tensor], images: int) -> None:
        """Take a step's losses."""
        self.check()
        self._pending = (epoch, step, Sent(losses))
        self._images += images * distributed.world_size()
        self._steps += 1
        self._last = time.perf_counter()

    def check(self) -> None:
        """Read the losses that were added last.

        Raises:
            NonFiniteLossError: one of them is not finite.
        """
        if self._pending is None:
            return
        epoch, step, sent = self._pending
        self._pending = None
        values = sent.values()
        if any(v != v or abs(v) == float("inf") for v in values.values()):
            terms = ", ".join(f"{k} {v:g}" for k, v in values.items())
            matched = any(name.startswith("matching/") for name in values)
            raise NonFiniteLossError(
                f"epoch {epoch + 1}, step {step + 1}: the loss is not finite: {terms}; lower --lr "
                f"{'or --mgd-strength, ' if matched else ''}or, in 16 bits, give --precision 32. "
                "Checkpoints, if there are any, are from before"
            )
        self._constant.add(sum(values.values()))
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    @property
    def _own(self) -> LossSums:
        """What this process has summed."""
        return LossSums(self._count, self._sums)

    def report(self, epoch: int, step: int) -> None:
        """Log this process's means so far in this epoch, the speed and the time left."""
        self.check()
        seconds = time.perf_counter() - self._clock
        speed, means = self._images / seconds, self._own.means()
        parts = " ".join(f"{k.removeprefix('train_')} {v:.4f}" for k, v in means.items())
        logger.info(
            "epoch %d/%d step %d/%d  %s  %s  %s left",
            *(epoch + 1, self.epochs, step + 1, self.steps),
            *(parts, format_speed(speed), self._left(epoch, step, seconds)),
            extra=NOT_ON_TERMINAL,
        )

    def note(self, epoch: int, step: int) -> str:
        """This process's mean loss of the epoch so far, speed and time left, in words."""
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        loss = f"loss {self._own.means()['train_loss']:.4g}, " if self._count else ""
        left = self._left(epoch, step, seconds)
        return f"{loss}{format_speed(self._images / seconds)}, {left} left"

    def _left(self, epoch: int, step: int, seconds: float) -> str:
        """Time that the steps after one take, if they are as fast as those of ``seconds``."""
        steps = (self.epochs - epoch) * self.steps - step - 1
        return format_duration(steps * seconds / max(self._steps, 1))

    def finish(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log and write the epoch's means over all processes, with the metrics given."""
        self.check()
        seconds = self._last - self._clock
        speed = self._images / max(seconds, 1e-9)
        rate = self.optimizer.param_groups[0]["lr"]
        row = {**self.summed().means(), "lr": rate}
        row |= {"images_per_second": round(speed, 1)} if self._images else {}
        row |= {"peak_memory_gib": round(peak_memory(), 3), **metrics}
        text = "  ".join(f"{k} {_short(v)}" for k, v in row.items())
        logger.info("epoch %d/%d done  %s", epoch + 1, self.epochs, text, extra=FILE_ONLY)
        left = self._left(epoch, self.steps - 1, seconds) if epoch + 1 < self.epochs else ""
        line = epoch_line(
            *(epoch, self.epochs, self.steps, metrics),
            loss=row["train_loss"],
            speed=speed,
            left=left if self._steps else "",
        )
        logger.info("%s", line, extra=SCREEN_ONLY)
        self.write(epoch, self.steps, row)

    def write(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Write a row at a position."""
        if self.writer and metrics:
            done = epoch * self.steps + step
            self.writer.write(done, done / self.steps, metrics)


def peak_memory() -> float:
    """Most memory that this process took so far, in GiB: on its GPU where it has one."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / 2**20 / (1024 if sys.platform == "darwin" else 1)  # macOS counts bytes


def _short(figure: float) -> str:
    """Four places, and a count in full."""
    whole = abs(figure) >= 1e4 and float(figure).is_integer()
    return f"{figure:.0f}" if whole else f"{figure:.4g}"
