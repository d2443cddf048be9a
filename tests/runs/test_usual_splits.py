"""Parts of a batch that are normalized apart by default."""

import pytest

from mgd_ssl.runs.pretrain_networks import usual_splits


@pytest.mark.parametrize(
    ("batch", "expected"),
    [(1024, 8), (256, 8), (200, 8), (128, 8), (96, 4), (64, 4), (32, 2), (8, 2)],
)
def test_parts_have_16_images_where_the_batch_has_as_many(batch: int, expected: int) -> None:
    assert usual_splits(batch) == expected
    assert batch % expected == 0
