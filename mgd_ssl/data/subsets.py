"""Some of the images of a source."""

from typing import TypeVar, cast

import numpy as np

from mgd_ssl.data.sources import ImageSource

Source = TypeVar("Source", bound=ImageSource)


def subset(source: Source, count: int, seed: int = 0) -> Source:
    """A fixed random choice of ``count`` images in source order; all of them if there are fewer.

    Raises:
        ValueError: ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"a subset of {count} images; expected at least 1.")
    if count >= len(source):
        return source
    chosen = np.random.default_rng(seed).choice(len(source), count, replace=False)
    return cast(Source, source.select(np.sort(chosen).astype(np.int64)))


def spread_out(images: int, most: int) -> list[int]:
    """Ascending indices of at most ``most`` images from all over a source of so many."""
    places = np.linspace(0, images - 1, min(most, images)).astype(np.int64)
    return np.unique(places).tolist()  # type: ignore[no-any-return]


def split_off(source: ImageSource, count: int, seed: int = 0) -> tuple[ImageSource, ImageSource]:
    """The other images, and a fixed random choice of ``count``, both in source order.

    Raises:
        ValueError: one of the two would be empty.
    """
    if not 0 < count < len(source):
        raise ValueError(f"{count} of {len(source)} images split off; expected some, and not all.")
    order = np.random.default_rng(seed).permutation(len(source))
    rest, chosen = np.sort(order[count:]), np.sort(order[:count])
    return source.select(rest), source.select(chosen)
