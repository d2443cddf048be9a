"""A share of the labels is seeded, the same in every class, and never without a class."""

import numpy as np
import pytest

from mgd_ssl.data import ArraySource
from mgd_ssl.data.fractions import label_fraction

COUNTS = (100, 60, 40, 7)


def source() -> ArraySource:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))
    return ArraySource(np.arange(207, dtype=np.uint8)[:, None, None], labels)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.1, [10, 6, 4, 1]), (0.05, [5, 3, 2, 1]), (0.5, [50, 30, 20, 4])]
)
def test_each_class_gives_the_same_share(fraction: float, expected: list[int]) -> None:
    chosen = label_fraction(source(), fraction)
    assert np.bincount(chosen.labels).tolist() == expected


def test_images_keep_their_labels_and_the_seed_chooses_them() -> None:
    whole = source()
    images = whole.read_array(np.arange(207))[:, 0, 0]
    sets = []
    for seed in (0, 0, 1):
        chosen = label_fraction(whole, 0.2, seed)
        pixels = chosen.read_array(np.arange(len(chosen)))[:, 0, 0]
        assert (images[pixels] == pixels).all()
        assert (whole.labels[pixels] == chosen.labels).all()
        sets.append(pixels.tolist())
    assert sets[0] == sets[1] != sets[2] and len(set(sets[0])) == len(sets[0])


def test_the_whole_is_the_source_itself() -> None:
    whole = source()
    assert label_fraction(whole, 1.0) is whole


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected above 0, at most 1"):
        label_fraction(source(), fraction)


def test_fewer_labels_than_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.01 of 207 images is fewer than the 4 classes"):
        label_fraction(source(), 0.01)
