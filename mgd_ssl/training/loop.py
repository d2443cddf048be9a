"""The only training loop: it steps on named losses and knows no views, boxes or teachers."""

import hashlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mgd_ssl import distributed
from mgd_ssl.errors import Interrupted
from mgd_ssl.fabric import Fabric
from mgd_ssl.progress import Progress
from mgd_ssl.training.logging import Writer
from mgd_ssl.training.meter import LossSums, Meter
from mgd_ssl.training.schedules import LearningRate
from mgd_ssl.training.stop_signal import StopNow, StopSignal


@dataclass(frozen=True)
class Position:
    """Where a run stands: the next step to take, both 0-based.

    After the last step of an epoch, before its figures are taken, ``step`` is the number of steps.

    Attributes:
        summed: the losses of the epoch's steps before it.
    """

    epoch: int = 0
    step: int = 0
    summed: LossSums = field(default=LossSums(), compare=False)

    def __str__(self) -> str:
        step = f", step {self.step + 1}" if self.step else ""
        return f"epoch {self.epoch + 1}{step}"


@runtime_checkable
class Loader(Protocol):
    """Batches, each with ``images``, in an order that is a pure function of (seed, epoch)."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def __iter__(self) -> Iterator[Any]:
        """The batches from the position that was set."""

    def set_position(self, epoch: int, start_step: int = 0) -> None:
        """Begin the next iteration at a step of an epoch."""


@dataclass(frozen=True)
class LoopConfig:
    """Length and rhythm of a run.

    Attributes:
        epochs: passes over the data.
        seed: of everything random; each step is seeded by (seed, epoch, step, rank).
        print_freq: steps between two lines of the log.
        save_every: steps between two checkpoints; 0 saves at the end of each epoch only.
    """

    epochs: int
    seed: int = 0
    print_freq: int = 50
    save_every: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.print_freq < 1 or self.save_every < 0:
            raise ValueError(
                f"got epochs {self.epochs}, print_freq {self.print_freq}, save_every "
                f"{self.save_every}; expected at least 1, 1 and 0"
            )


Losses = Mapping[str, Tensor]


def no_metrics(_: object) -> dict[str, float]:
    """Do nothing, and measure nothing, before a step or after an epoch."""
    return {}


def fit(
    step: Callable[[Any], Losses | Iterable[Losses]],
    loader: Loader,
    optimizer: Any,
    config: LoopConfig,
    *,
    fabric: Fabric,
    learning_rate: LearningRate,
    save: Callable[[Position], None],
    start: Position = Position(),
    before_step: Callable[[Position], Mapping[str, float]] = no_metrics,
    after_epoch: Callable[[int], Mapping[str, float]] = no_metrics,
    update: Callable[[], object] | None = None,
    writer: Writer | None = None,
) -> None:
    """Train from ``start`` to the last epoch.

    Args:
        step: a batch on the device -> named scalar losses, whose sum is minimized; or such losses
            of one part of the batch after the other, which add up to those of the batch.
        loader: its order is a pure function of (seed, epoch), its position can be set.
        optimizer: set up by Fabric.
        config: length and rhythm.
        fabric: devices and precision.
        learning_rate: a pure function of the position.
        save: writes a checkpoint that says to go on at the position given.
        start: where to begin.
        before_step: called with the position before each step; metrics to log.
        after_epoch: called with the 0-based epoch after its last step; metrics to log.
        update: changes the weights by their gradients; by default the optimizer's step.
        writer: gets every row of metrics.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is written. One process answers it
            while it solves the matching or takes figures too, several after that.
        NonFiniteLossError: a loss is NaN or infinite; names the step and each term.
    """
    steps, saved = len(loader), start
    meter = Meter(config.epochs, steps, writer, optimizer)

    def keep(here: Position) -> None:
        nonlocal saved
        meter.check()
        save(replace(here, summed=meter.summed() if here.step else LossSums()))
        saved = here

    bar = Progress("training", config.epochs * steps, "steps", logged=False)
    bar.done = start.epoch * steps + start.step
    with StopSignal() as stop, closing(bar):
        here = start
        try:
            for epoch in range(start.epoch, config.epochs):
                first_step = start.step if epoch == start.epoch else 0
                bar.what = f"epoch {epoch + 1}/{config.epochs}"
                loader.set_position(epoch, first_step)
                meter.restart(start.summed if first_step else LossSums())
                for index, batch in enumerate(loader, first_step):
                    here = Position(epoch, index)
                    seed_step(config.seed, epoch, index)  # of a solve, which not each step has
                    with meter.paused(), stop.at_once():
                        metrics = before_step(here)
                    meter.write(epoch, index + 1, metrics)
                    seed_step(config.seed, epoch, index)
                    _set_rate(optimizer, learning_rate(epoch, index, steps))
                    losses = take_step(
                        fabric, optimizer, step(fabric.to_device(batch)), update or optimizer.step
                    )
                    meter.add(epoch, index, losses, len(batch.images))
                    if (index + 1) % config.print_freq == 0:
                        meter.report(epoch, index)
                    bar.advance(note=meter.note(epoch, index))
                    here, stopping = Position(epoch, index + 1), stop.agreed(index, steps)
                    due = config.save_every and (index + 1) % config.save_every == 0
                    if stopping or (due and index + 1 < steps):
                        keep(here)
                    if stopping:
                        raise Interrupted(stop.signum or signal.SIGTERM, begun=here != Position())
                meter.check()
                with stop.at_once():
                    metrics = after_epoch(epoch)
                meter.finish(epoch, metrics)
                keep(Position(epoch + 1, 0))
        except StopNow:
            if here != saved:
                keep(here)
            raise Interrupted(stop.signum or signal.SIGTERM, begun=here != Position()) from None


def take_step(
    fabric: Fabric,
    optimizer: Any,
    losses: Losses | Iterable[Losses],
    update: Callable[[], object],
) -> dict[str, Tensor]:
    """Gradients of the losses, or of those of all parts, and one update; returns the losses."""
    optimizer.zero_grad(set_to_none=True)
    total: dict[str, Tensor] = {}
    for part in [losses] if isinstance(losses, Mapping) else losses:
        fabric.backward(torch.stack([loss.float() for loss in part.values()]).sum())
        total = {k: total[k] + v.detach() if total else v.detach() for k, v in part.items()}
    update()
    return total


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Seed torch for one step of this rank.

    A step's randomness is a function of its position, so that a resumed run needs no random
    state and draws what the uninterrupted run drew.
    """
    mixed = (seed, epoch, step, distributed.rank())
    torch.manual_seed(int.from_bytes(_digest(mixed), "little"))


def _digest(values: tuple[int, ...]) -> bytes:
    return hashlib.blake2b(repr(values).encode(), digest_size=7).digest()
