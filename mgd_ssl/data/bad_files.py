"""Image files that cannot be decoded: replaced by the next that can, named, counted, limited."""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from torch import Tensor

from mgd_ssl.data.sources import ImageSource

logger = logging.getLogger(__name__)
MOST_BAD_IN_A_ROW = 1000
Read = TypeVar("Read")


class Checked(Protocol):
    """A batch that says which images were replaced: ``failed`` (B,) int64, -1 where none was."""

    @property
    def failed(self) -> Tensor:
        """Index of the image that could not be decoded, or -1."""


class DecodeError(ValueError):
    """Too many files of a source cannot be decoded."""

    def __init__(self, message: str) -> None:
        # a loader raises a worker's error again with the worker's traceback before the message
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].rstrip())


def read_or_next(
    source: ImageSource, index: int, read: Callable[[int], Read]
) -> tuple[Read, int, int]:
    """Read image ``index``, or the next that can be decoded, the first following the last.

    Args:
        source: of the images.
        index: of the image.
        read: an index to what is made of that image; raises where it cannot be decoded.

    Returns:
        What was read, its index, and ``index`` where that one failed, else -1.

    Raises:
        DecodeError: this image and the thousand after it, or all, cannot be decoded.
    """
    errors: list[str] = []
    for step in range(min(MOST_BAD_IN_A_ROW, len(source))):
        used = (index + step) % len(source)
        try:
            found = read(used)
        except Exception as error:  # decoders raise anything on damaged files
            errors.append(f"{source.describe(used)} ({type(error).__name__}: {error})")
            continue
        return found, used, index if errors else -1
    raise DecodeError(
        f"{len(errors)} images in a row cannot be decoded, among them {', '.join(errors[:3])}; "
        "expected image files that Pillow reads. Check the data folder."
    )


class DecodeGuard:
    """Names and counts the files that were replaced, and stops a run that replaces too many.

    The share is judged against max(images seen, min(images in the source, 1000)), so that one bad
    file in the first batch of a large set does not stop the run, and one of fifty does.

    Args:
        source: where indices are looked up.
        limit: largest share of bad images, in [0, 1].
    """

    def __init__(self, source: ImageSource, limit: float = 0.01) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"limit of undecodable images {limit}; expected a share in [0, 1].")
        self.source, self.limit = source, limit
        self.seen = self.failures = 0
        self._named: dict[int, str] = {}

    def check(self, batch: Checked) -> None:
        """Count ``batch``, best before it goes to the device.

        Raises:
            DecodeError: more than ``limit`` of the images were replaced.
        """
        self.seen += len(batch.failed)
        for index in batch.failed[batch.failed >= 0].tolist():
            self.failures += 1
            if index not in self._named:
                self._named[index] = self.source.describe(index)
                logger.warning("cannot be decoded, replaced: %s", self._named[index])
        judged = max(self.seen, min(len(self.source), 1000))
        if self.failures > self.limit * judged:
            names = ", ".join(list(self._named.values())[:5])
            raise DecodeError(
                f"{self.failures} of {self.seen} images cannot be decoded, among them {names}; "
                f"expected at most {self.limit:.1%}. Remove or repair them, or raise the limit."
            )
