import pytest

from mgd_ssl.matching import detection_weights, mean_weights, stage_weights


def test_each_earlier_stage_weighs_half():
    weights = stage_weights(4, images=256)
    assert weights == pytest.approx([w / 256e4 for w in (1 / 8, 1 / 4, 1 / 2, 1)])
    assert stage_weights(2, images=1, factor=1.0) == [0.5, 1.0]


def test_detection_weighs_the_deeper_maps_ten_times():
    weights = detection_weights(9, images=16)
    assert weights == pytest.approx([1 / 5e7 / 16] * 2 + [1 / 5e6 / 16] * 7)


def test_mean_weights_are_free_of_batch_and_resolution():
    small, large = [2 * 4 * 8 * 8, 2 * 8 * 4 * 4], [64 * 4 * 56 * 56, 64 * 8 * 28 * 28]
    for elements in (small, large):
        weights = mean_weights(elements, scale=3.0)
        means = [w * n for w, n in zip(weights, elements, strict=True)]
        assert means == pytest.approx([1.5, 3.0])
