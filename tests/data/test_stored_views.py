"""A few views of each image come again and again, each as its epoch would draw it."""

import numpy as np
import pytest

from mgd_ssl.data import RandomCrops, StoredViews

CROPS = RandomCrops(8, 1, seed=3, flip_p=0.5)


@pytest.mark.parametrize(
    ("views", "seen"),
    [(1, [[0], [1], [2], [0], [1]]), (2, [[0, 1], [2, 0], [1, 2], [0, 1], [2, 0]])],
)
def test_an_epoch_sees_the_next_of_the_stored_views(views: int, seen: list[list[int]]) -> None:
    stored = StoredViews(CROPS, 3, views)
    assert [stored.seen(epoch) for epoch in range(5)] == seen


def test_views_are_those_of_the_epochs_that_no_store_serves() -> None:
    stored, images = StoredViews(CROPS, 3), np.array([4, 0, 7])
    for epoch in range(7):
        assert stored.draw(epoch, images) == CROPS.draw(epoch % 3, images)


def test_two_views_are_drawn_each_by_its_own_epoch() -> None:
    stored, images = StoredViews(CROPS, 5, 2), np.array([4, 0])
    first, second = CROPS.draw(1, images), CROPS.draw(2, images)
    assert stored.draw(3, images) == [a + b for a, b in zip(first, second, strict=True)]
