"""The validation images of labeled data, or of images without labels."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mgd_ssl.data import ImageSource, NoValidationError, open_sources
from mgd_ssl.data.splitting import SHARE, split_by_name


class Parts(NamedTuple):
    """Both parts of the images.

    Attributes:
        train: all of that part, but for what was split off.
        val: what is measured on.
        split: how val was chosen, in words; None where the data has a val part.
    """

    train: ImageSource
    val: ImageSource
    split: str | None = None

    @property
    def in_words(self) -> str:
        """How val was chosen, and how many images it has."""
        both = len(self.train) + len(self.val)
        return f"no val part: {len(self.val)} of {both} images serve as val ({self.split})"


def with_val_part(
    train: ImageSource, data: Sequence[Any], opening: Mapping[str, Any], seed: int = 0
) -> Parts:
    """The data's val part beside train; where it has none, a fifth of train is split off by name.

    Args:
        train: the whole training part; val has labels where it has.
        data: where the images are.
        opening: options that open them.
        seed: of the split.

    Raises:
        ValueError: the val part cannot be opened, or train is too small to be split.
    """
    try:
        return Parts(train, open_sources(data, "val", labeled=train.labels is not None, **opening))
    except NoValidationError:
        return split_off_val(train, seed)


def split_off_val(train: ImageSource, seed: int = 0) -> Parts:
    """A fifth of the images as the val part, chosen by name; of each class where there are labels.

    Raises:
        ValueError: they are too few.
    """
    share = f"{SHARE:.0%}" if train.labels is None else f"{SHARE:.0%} of each class"
    return Parts(*split_by_name(train, seed), f"{share}, by file name and seed {seed}")
