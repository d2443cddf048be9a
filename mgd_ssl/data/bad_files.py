"""Image files that cannot be decoded: replaced by the next that can, named, counted, limited."""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from torch import Tensor

from mgd_ssl.data.formats import explain, printable
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.errors import WorkerError

logger = logging.getLogger(__name__)
MOST_BAD_IN_A_ROW = 1000
Read = TypeVar("Read")
MOST_NAMED = 20


class Checked(Protocol):
    """A batch that says which images were replaced: ``failed`` (B,) int64, -1 where none was."""

    @property
    def failed(self) -> Tensor:
        """Index of the image that could not be decoded, or -1."""


class DecodeError(WorkerError):
    """Too many files of a source cannot be decoded."""


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
            errors.append(f"{printable(source.describe(used))} ({explain(error)})")
            continue
        return found, used, index if errors else -1
    raise DecodeError(
        f"{len(errors)} images in a row cannot be decoded, among them {', '.join(errors[:3])}; "
        "expected image files that Pillow reads. Check the data folder."
    )


def reason_undecodable(source: ImageSource, index: int, exif: bool = True) -> str:
    """Why image ``index`` cannot be decoded: it is tried again, as workers send no reasons."""
    try:
        source.open(index, exif=exif).load()
    except Exception as error:
        return explain(error)
    return "readable now: look at the disk or the network"


class DecodeGuard:
    """Names and counts the images that cannot be decoded, and stops a run that has too many.

    An image counts once, however often it is drawn. The share is judged against the images seen, or
    the first thousand of the source where fewer were seen, so that one bad file in the first batch
    of a large set does not stop the run, and one of fifty does.

    Args:
        source: where indices are looked up.
        limit: largest share of bad images, in [0, 1]; 1 never stops.
        outcome: what becomes of such an image, for the log.
        exif: whether images are turned as their EXIF orientation says.
    """

    def __init__(
        self,
        source: ImageSource,
        limit: float = 0.01,
        outcome: str = "replaced",
        exif: bool = True,
    ) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"limit of undecodable images {limit}; expected a share in [0, 1].")
        self.source, self.limit, self.outcome, self.exif = source, limit, outcome, exif
        self.seen = 0
        self._bad: set[int] = set()
        self._named: list[str] = []

    @property
    def unreadable(self) -> int:
        """Different images that could not be decoded."""
        return len(self._bad)

    @property
    def readable(self) -> int:
        """All other images of the source."""
        return len(self.source) - self.unreadable

    def check(self, batch: Checked) -> None:
        """Count ``batch``, before it goes to the device.

        Raises:
            DecodeError: more than ``limit`` of the images could not be decoded.
        """
        self.seen += len(batch.failed)
        for index in batch.failed[batch.failed >= 0].tolist():
            if index not in self._bad:
                self._bad.add(index)
                self._name(index)
        seen = min(self.seen, len(self.source))
        if self.unreadable > self.limit * max(seen, min(len(self.source), 1000)):
            raise DecodeError(
                f"{self.unreadable} of {seen} images cannot be decoded, among them "
                f"{', '.join(self._named[:5])}; expected at most {self.limit:.1%}. Remove or "
                "repair them, or raise the limit: --bad-images."
            )

    def _name(self, index: int) -> None:
        if len(self._bad) <= MOST_NAMED:
            reason = reason_undecodable(self.source, index, self.exif)
            self._named.append(f"{printable(self.source.describe(index))} ({reason})")
            logger.warning("cannot be decoded, %s: %s", self.outcome, self._named[-1])
        elif len(self._bad) == MOST_NAMED + 1:
            logger.warning("further images that cannot be decoded are counted, and not named")


def make_guard(source: ImageSource, limit: float, *, train: bool, exif: bool = True) -> DecodeGuard:
    """A loader's guard: training replaces images, an evaluation leaves them out."""
    return DecodeGuard(source, limit, "replaced" if train else "left out", exif)
