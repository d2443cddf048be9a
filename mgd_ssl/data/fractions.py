"""A share of the labels, for semi-supervised protocols."""

import numpy as np

from mgd_ssl.data.sources import ImageSource


def label_fraction(source: ImageSource, fraction: float, seed: int = 0) -> ImageSource:
    """A seeded, stratified share of a labeled source, in source order; 1 is the source itself.

    Every class gives ⌊its images × fraction + ½⌋ images, at least one.

    Source of the protocol (1 % and 10 % of the labels): Chen et al., A Simple Framework for
    Contrastive Learning of Visual Representations, ICML 2020.

    Raises:
        ValueError: ``fraction`` is not in (0, 1], or it is of fewer images than there are classes.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"label fraction: got {fraction}, expected above 0, at most 1")
    if fraction == 1:
        return source
    assert source.labels is not None
    present, counts = np.unique(source.labels, return_counts=True)
    if round(fraction * len(source)) < len(present):
        raise ValueError(
            f"label fraction: {fraction:g} of {len(source)} images is fewer than the "
            f"{len(present)} classes, expected one or more a class; give at least "
            f"{len(present) / len(source):.2g}"
        )
    generator = np.random.default_rng([seed, 1])
    chosen = [
        generator.choice(
            np.flatnonzero(source.labels == label), max(1, int(n * fraction + 0.5)), replace=False
        )
        for label, n in zip(present, counts, strict=True)
    ]
    return source.select(np.sort(np.concatenate(chosen)).astype(np.int64))
