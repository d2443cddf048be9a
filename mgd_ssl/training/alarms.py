"""Signs that a run learns nothing, or cannot be measured: said, and the run goes on."""

from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import ImageSource
from mgd_ssl.training.logging import logger

SAME = 1e-6  # of the loss: two batches never agree so closely by chance
MOST_STEPS = 50
UNMOVED = 1e-7  # of the weights' norm


class ConstantLoss:
    """Warns where the loss stays the same for an epoch's steps, 3 at least and 50 at most.

    Args:
        steps: of an epoch.
    """

    def __init__(self, steps: int) -> None:
        self.limit = min(max(steps, 3), MOST_STEPS)
        self._loss, self._count, self._warned = float("nan"), 0, False

    def add(self, loss: float) -> None:
        """Take the loss of a step."""
        same = abs(loss - self._loss) <= SAME * abs(self._loss)
        self._count = self._count + 1 if same else 1
        self._loss = self._loss if same else loss
        if self._count >= self.limit and not self._warned:
            self._warned = True
            logger.warning(
                "the loss has been %g for %d steps, whatever the images: nothing is learned from "
                "it; look at the weights of its terms (--objective-weight, "
                "--mgd-strength), at --lr, and whether the teacher fits the images",
                *(self._loss, self._count),
            )


class UnmovedStudent:
    """Warns where an epoch has moved the weights by less than float32 resolves.

    Args:
        parameters: of the student, before the epoch.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._before = self._copies(parameters)

    def check(self, parameters: Iterable[Tensor]) -> None:
        """Compare with the student's parameters after the epoch."""
        pairs = list(zip(self._before, self._copies(parameters), strict=True))
        moved = sum(float((now - before).double().square().sum()) for before, now in pairs)
        size = sum(float(before.double().square().sum()) for before, _ in pairs)
        if moved <= UNMOVED**2 * size:
            logger.warning(
                "the student's weights have not moved in an epoch; raise --lr, and look whether a "
                "term of the loss reaches the student (--objective-weight, --mgd-strength)"
            )

    @staticmethod
    def _copies(parameters: Iterable[Tensor]) -> list[Tensor]:
        return [parameter.detach().cpu().clone() for parameter in parameters]


def warn_of_guessing(top1: float, queries: ImageSource) -> None:
    """Warn of a teacher whose neighbors are hardly better than always naming the commonest class.

    Args:
        top1: its kNN accuracy, in percent.
        queries: the images that it was measured on, with labels.
    """
    if queries.labels is None:
        return
    guessing = 100 * float(np.bincount(queries.labels).max()) / len(queries)
    if top1 < min(2 * guessing, (100 + guessing) / 2):
        logger.warning(
            "the teacher's kNN top-1 of %.1f %% is hardly better than guessing, %.1f %%: a student "
            "learns little from it; look at the keys that were matched, at --teacher-size, and "
            "whether the teacher was trained on images of this kind",
            *(top1, guessing),
        )


def measure_or_warn(
    measure: Callable[[int], dict[str, float]], epoch: int, student: nn.Module
) -> dict[str, float]:
    """The epoch's figures; where they cannot be taken the epoch is kept, and that is said.

    Raises:
        ValueError: the student itself is not finite, so that there is nothing to keep.
    """
    alone = distributed.world_size() == 1
    # What fails on one of several ranks alone must end the run: the others wait for it.
    failures = (ValueError, OSError, RuntimeError if alone else distributed.ShareFailedError)
    try:
        return measure(epoch)
    except failures as error:
        if not all(p.isfinite().all() for p in student.parameters()):
            raise
        logger.warning(
            "the student could not be measured after epoch %d: %s. Its weights are kept, and "
            "the run goes on",
            *(epoch + 1, str(error).rstrip(".")),
        )
        return {}
