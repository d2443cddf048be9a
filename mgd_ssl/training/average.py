"""A moving average of the student, which is measured and exported in its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mgd_ssl import distributed

UNAVERAGED = "unaveraged"  # entry of a checkpoint; no reader takes it for averaged weights


class StudentAverage:
    """An exponential moving average of a student's weights and of its norms' statistics.

    The average begins as the student after its first step. After each later step it is
    ``decay`` · average + (1 - ``decay``) · student.

    Args:
        student: on its device; it is copied.
        decay: from 0 to below 1.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        self.student = student
        self.model = AveragedModel(student, multi_avg_fn=_moving(decay), use_buffers=True)
        self.model.requires_grad_(False)

    def update(self) -> None:
        """Take in the student after a step."""
        self.model.update_parameters(self.student)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the student has the averaged values, and the average keeps the student's own.

        Afterwards each has its own values again, wherever a signal broke in.
        """
        averaged, own = ([x.data for x in tensors] for tensors in zip(*self._pairs(), strict=True))
        try:
            try:
                self._put(own, averaged)
                yield
            finally:
                self._put(averaged, own)
        except BaseException:  # it may have come while they were put back
            self._put(averaged, own)
            raise

    def share(self) -> None:
        """Give every rank the first rank's statistics of norms."""
        distributed.share_buffers(self.model.module)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the averaged student: its own values, and the steps.

        Call it `in_place`.
        """
        return {
            "steps": int(self.model.n_averaged),
            "student": self.model.module.state_dict(),
        }

    def resume(self, steps: int) -> None:
        """Take the student's values as the average of so many steps."""
        for mine, theirs in self._pairs():
            mine.data.copy_(theirs.data)
        self.model.n_averaged.fill_(steps)

    def _put(self, averaged: list[Tensor], student: list[Tensor]) -> None:
        """Give the average's tensors and the student's these values."""
        for (mine, theirs), average, own in zip(self._pairs(), averaged, student, strict=True):
            mine.data, theirs.data = average, own

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters and buffers of the average and of the student."""
        average = self.model.module
        yield from zip(average.parameters(), self.student.parameters(), strict=True)
        yield from zip(average.buffers(), self.student.buffers(), strict=True)


def _moving(decay: float) -> Any:
    """The average of floating values; of whole numbers, such as counts of batches, the last."""
    average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Any) -> None:
        if averages[0].is_floating_point():
            average(averages, values, count)
        else:
            torch._foreach_copy_(averages, values)

    return update
