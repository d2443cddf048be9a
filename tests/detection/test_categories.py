"""Categories of one id have one name, in both parts of the data and in a detector."""

import logging
from pathlib import Path
from typing import Any

import pytest
from coco_folder import box, instances, write_split

from mgd_ssl.detection.categories import check_same_categories, match_categories
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.models import BackboneSpec, KeyReport
from mgd_ssl.training.logging import logger


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.INFO, logger.name)
    return caplog


def test_val_of_other_categories_is_refused(tmp_path):
    boxes = [box(10, 7, 1, 2, 3, 4.5)]
    train = open_detection(write_split(tmp_path, instances(3, boxes)), "train")
    check_same_categories(train, train)
    for change in ({"name": "cow"}, {"id": 21}):
        data = instances(3, boxes)
        data["categories"][0] |= change
        val = open_detection(write_split(tmp_path, data, "val"), "val")
        with pytest.raises(ValueError, match=r"3 categories that differ from the 3 of .*'hat'"):
            check_same_categories(train, val)


def detector(ids: list[int], names: Any) -> KeyReport:
    return KeyReport(Path("d.pt"), "detect", BackboneSpec(), classes=len(ids), class_names=names)


def test_categories_of_one_id_have_one_name(log: Any) -> None:
    report = detector([1, 2, 3], ("cat", "dog", "cow"))
    match_categories(report, [1, 2, 3], [2, 3], ["dog", "cow"], what="teacher")
    with pytest.raises(ValueError, match=r"categories 1 cat, which the data calls 1 dog, expected"):
        match_categories(report, [1, 2, 3], [1, 3], ["dog", "cow"], what="teacher")
    with pytest.raises(ValueError, match=r"teacher: d\.pt finds the categories 1 cat, 2 dog, 3 co"):
        match_categories(report, [1, 2, 3], [7], ["cat"], what="teacher")
    assert log.text == ""
    match_categories(detector([1, 2], None), [1, 2], [1], ["cat"], what="teacher")
    assert "compared by id; the file has no names" in log.text
