"""A validation part of data that has none: a share of each class, chosen by names and a seed."""

import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.sources import ImageSource

SHARE = 0.2


def split_by_name(
    source: ImageSource, seed: int = 0, share: float = SHARE
) -> tuple[ImageSource, ImageSource]:
    """Training and validation images, both in source order.

    In each class the images whose hashes of seed and name are smallest are validated on: the share,
    rounded to whole images, and never all of a class. The choice depends neither on the order of
    the images nor on where the data lies.

    Args:
        source: with or without labels.
        seed: of the hashes.
        share: of each class, in (0,1).

    Raises:
        ValueError: one of the two would be empty.
    """
    labels = np.zeros(len(source), np.int64) if source.labels is None else source.labels
    order = np.lexsort((_hashes(source, seed), labels))
    present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    quotas = np.minimum(np.floor(counts * share + 0.5).astype(int), counts - 1)
    chosen = [order[start : start + quota] for start, quota in zip(starts, quotas, strict=True)]
    held = np.zeros(len(source), bool)
    held[np.concatenate(chosen)] = True
    if not held.any():
        raise ValueError(
            f"{source.name}: no validation images, and {len(source)} images of {len(present)} "
            "classes are too few to keep some out; expected three or more of a class. Add a folder "
            "val beside train, or more images."
        )
    return source.select(np.flatnonzero(~held)), source.select(np.flatnonzero(held))


def _hashes(source: ImageSource, seed: int) -> NDArray[np.uint64]:
    """(N,) of seed and name, alike on every machine."""
    found = np.empty(len(source), np.uint64)
    start = 0
    for part, indices in source.pieces(np.arange(len(source))):
        for place, index in enumerate(indices.tolist(), start):
            name = os.fsencode(part.stored(index)[0])
            digest = hashlib.blake2b(b"%d\0%b" % (seed, name), digest_size=8)
            found[place] = int.from_bytes(digest.digest(), "little")
        start += len(indices)
    return found
