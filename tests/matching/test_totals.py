import pytest

from mgd_ssl.matching import detection_weights, stage_weights


def test_each_earlier_stage_weighs_half():
    assert stage_weights(4) == [1 / 8, 1 / 4, 1 / 2, 1]


def test_detection_weighs_the_deeper_maps_ten_times():
    assert detection_weights(9) == pytest.approx([1 / 5e7] * 2 + [1 / 5e6] * 7)
