"""What every kind of data has in common: how it is recognized, and what is asked of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgd_ssl.data.sources import ImageSource

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Wanted:
    """Which images of the data are to be opened.

    Attributes:
        split: "train" or "val".
        labeled: whether labels are wanted; data whose labels are unclear is refused then.
        train_folder: the folder of the training images, "." for all; None tells it by its name.
        val_folder: the folder of the validation images; None tells it by its name.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.
    """

    split: Split
    labeled: bool = False
    train_folder: str | None = None
    val_folder: str | None = None
    max_pixels: int | None = None

    def refuse_folders(self, data: str) -> None:
        """Refuse the names of folders for data that has none.

        Raises:
            ValueError: one was given.
        """
        if name := self.train_folder or self.val_folder:
            raise ValueError(
                f"--train-folder, --val-folder: got {name} with {data}, which has no folders of "
                "images; leave the option out."
            )


Opener = Callable[[Wanted], ImageSource]


@dataclass(frozen=True)
class Reader:
    """A kind of data.

    Attributes:
        what: the data in words, such as "a zip archive".
        find: looks at a path; returns what opens the data there, or None where it is of another
            kind. Raises ValueError where it is of this kind and cannot be used.
    """

    what: str
    find: Callable[[Path], Opener | None]
