"""Learning rates as pure functions of the position in a run, so that a resumed run agrees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from mgd_ssl.matching.margins import is_batch_norm
from mgd_ssl.settings.run import OptimizerOptions

# Rate of runs of up to REACH steps, for a student with batch norms and without; docs/log.md
WITH_BATCH_NORM, WITHOUT, REACH = 16e-3, 2e-3, 4000
WARMUP = 0.1  # part of the run over which the rate of Muon and AdamW rises from 0
# Batch norms make the scale of a weight immaterial: what counts is how often a run forgets it, the
# product of rate, decay and steps.
FORGETTING, MOST_DECAY, DECAY = 2.0, 0.5, 0.05
Kind = Literal["cosine", "cosine_per_epoch", "steps"]


@dataclass(frozen=True)
class LearningRate:
    """Learning rate at a position.

    Attributes:
        base: after the warm-up, above 0.
        epochs: length of the run, warm-up included.
        kind: ``cosine`` falls step by step to 0, ``cosine_per_epoch`` once an epoch, as MoCo v2's
            code does, and ``steps`` at the milestones.
        milestones: epochs (0-based) from which a further factor applies; for ``steps``.
        factor: of each milestone.
        warmup: epochs, or parts of one, over which the rate rises from 0, step by step.
    """

    base: float
    epochs: int
    kind: Kind = "cosine"
    milestones: Sequence[int] = (120, 160)
    factor: float = 0.1
    warmup: float = 0

    def __post_init__(self) -> None:
        if not self.base > 0:
            raise ValueError(f"lr: got {self.base}, expected a number above 0")
        if not 0 <= self.warmup < max(self.epochs, 1):
            raise ValueError(f"warmup: got {self.warmup} of {self.epochs} epochs, expected fewer")

    def __call__(self, epoch: int, step: int, steps: int) -> float:
        """The rate of step ``step`` of ``steps`` in ``epoch``, all 0-based."""
        taken = epoch * steps + step
        if taken < self.warmup * steps:
            return self.base * (taken + 1) / max(self.warmup * steps, taken + 1)
        if self.kind == "steps":
            return self.base * self.factor ** sum(epoch >= m for m in self.milestones)
        reached = epoch if self.kind == "cosine_per_epoch" else taken / steps
        done = max(reached - self.warmup, 0) / (self.epochs - self.warmup)
        return self.base * 0.5 * (1 + math.cos(math.pi * done))


def pretraining_rate(student: nn.Module) -> float:
    """The rate of a short run of pretraining that suits a student, for Muon and AdamW."""
    return WITH_BATCH_NORM if _has_batch_norm(student) else WITHOUT


def weight_decay(
    options: OptimizerOptions, rate: LearningRate, steps: int, student: nn.Module
) -> float:
    """The weight decay that the options say, or one that suits rate, length and student.

    Args:
        options: of the run.
        rate: of the run.
        steps: of an epoch.
        student: that is trained.
    """
    if options.weight_decay is not None:
        return options.weight_decay
    if not _has_batch_norm(student):
        return DECAY
    return min(FORGETTING / (rate.base * rate.epochs * steps), MOST_DECAY)


def _has_batch_norm(student: nn.Module) -> bool:
    return any(map(is_batch_norm, student.modules()))


def learning_rate(
    options: OptimizerOptions,
    steps: int,
    short: float,
    *,
    extend: bool = False,
    warmup: float | None = None,
) -> LearningRate:
    """The schedule that the options say.

    Args:
        options: of the run.
        steps: of an epoch.
        short: rate of a run of up to 4,000 steps, where the options say 0; it falls with the root
            of the steps of a longer run.
        extend: let the warm-up come before the schedule, and the run be longer by it.
        warmup: epochs, or parts of one, instead of ``warmup_epochs``.
    """
    cosine: Kind = "cosine_per_epoch" if options.cos_per_epoch else "cosine"
    given = options.warmup_epochs
    later = (given or 0) if extend else 0
    if warmup is None:
        found = 0 if options.optimizer == "sgd" else WARMUP * options.epochs
        warmup = found if given is None else given
    length = min(math.sqrt(REACH / (options.epochs * steps)), 1.0)
    return LearningRate(
        options.lr or short * length,
        options.epochs + later,
        cosine if options.cos else "steps",
        [milestone + later for milestone in options.schedule],
        warmup=warmup,
    )
