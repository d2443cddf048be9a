import pytest

from mgd_ssl.matching import detection_weights, stage_weights


def test_each_earlier_stage_weighs_half():
    weights = stage_weights(4, images=256)
    assert weights == pytest.approx([w / 256e4 for w in (1 / 8, 1 / 4, 1 / 2, 1)])
    assert stage_weights(2, images=1, factor=1.0) == [0.5, 1.0]


def test_detection_weighs_the_deeper_maps_ten_times():
    weights = detection_weights(9, images=16)
    assert weights == pytest.approx([1 / 5e7 / 16] * 2 + [1 / 5e6 / 16] * 7)
