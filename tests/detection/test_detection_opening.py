import json
import logging

import numpy as np
import pytest
import torch
from coco_folder import SAMPLE, box, instances, write_split
from image_files import idx_folder, photo
from PIL import Image

from mgd_ssl.detection.loading import make_detection_loader
from mgd_ssl.detection.opening import open_detection

GOOD = [
    box(20, 20, 5, 6, 10, 12),
    box(10, 7, 1, 2, 3, 4.5, area=7.0),
    box(20, 3, 0, 0, 48, 40, iscrowd=1, area=99.0),
    box(20, 3, 8, 8, 2, 2),
]


def open_train(tmp_path, annotations, count=3):
    return open_detection(write_split(tmp_path, instances(count, annotations)), "train")


# what is read


@pytest.mark.parametrize("name", ["train", "train2017", "val", "val2017"])
def test_coco_folders_are_found_with_and_without_the_year(tmp_path, name):
    write_split(tmp_path, instances(3, GOOD), name)
    source = open_detection(tmp_path, name.removesuffix("2017"))
    assert len(source) == 3 and source.name == str(tmp_path / name)
    assert source.describe(1) == str(tmp_path / name / "2.png")
    assert source.read(0).size == (48, 40)


def test_boxes_become_corners_and_ids_with_gaps_become_labels_in_their_order(tmp_path):
    source = open_train(tmp_path, GOOD)
    assert source.category_ids == [3, 7, 20] and source.classes == ["cat", "dog", "hat"]
    assert source.table.image_ids == [10, 20, 30]
    first, second, third = (source.target(i) for i in range(3))
    assert first["boxes"].tolist() == [[1, 2, 4, 6.5]] and first["labels"].tolist() == [1]
    assert second["boxes"].tolist() == [[5, 6, 15, 18], [8, 8, 10, 10]]
    assert second["labels"].tolist() == [2, 0]
    assert third["boxes"].shape == (0, 4) and third["labels"].shape == (0,)
    for target in (first, second, third):
        assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64


def test_crowds_are_no_targets_and_stay_in_the_ground_truth(tmp_path):
    source = open_train(tmp_path, GOOD)
    assert source.table.dropped == {"crowd": 1}
    truth = source.ground_truth()
    got = [
        (a["image_id"], a["category_id"], a["bbox"], a["area"], a["iscrowd"])
        for a in truth["annotations"]
    ]
    assert got == [
        (10, 7, [1, 2, 3, 4.5], 7.0, 0),
        (20, 20, [5, 6, 10, 12], 120.0, 0),
        (20, 3, [0, 0, 48, 40], 99.0, 1),
        (20, 3, [8, 8, 2, 2], 4.0, 0),
    ]
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4]
    assert truth["images"][1] == {"id": 20, "height": 40, "width": 48}
    assert truth["categories"][0] == {"id": 3, "name": "cat"}
    json.dumps(truth)


def test_boxes_are_clipped_and_useless_ones_counted_and_reported_once(tmp_path, caplog):
    annotations = [
        box(10, 3, -5, 30, 15, 20, area=250.0),  # clipped to 0, 30, 10, 40
        box(10, 3, 4, 4, 0, 9),  # no width
        box(10, 3, 4, 4, 9, -1),  # negative height
        box(10, 3, 48, 4, 9, 9),  # begins where the image ends
        box(10, 3, 40, 0, 8.0005, 8, area=64.01),  # over the edge by rounding
    ]
    with caplog.at_level(logging.WARNING):
        source = open_train(tmp_path, annotations)
        source.target(0), source.target(0)
    assert source.table.dropped == {"no area": 2, "outside": 1}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("boxes dropped: 2 no area, 1 outside; clipped: 1")
    assert source.target(0)["boxes"].tolist() == [[0, 30, 10, 40], [40, 0, 48, 8]]
    truth = source.ground_truth()["annotations"]
    assert [a["area"] for a in truth] == [100.0, 64.01]


def test_nothing_is_reported_where_all_boxes_are_good(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert open_train(tmp_path, GOOD[:2]).table.dropped == {}
    assert not caplog.messages


def test_images_in_folders_below_are_found(tmp_path):
    data = instances(3, GOOD)
    write_split(tmp_path, data)
    (tmp_path / "train" / "deep").mkdir()
    (tmp_path / "train" / "3.png").rename(tmp_path / "train" / "deep" / "3.png")
    data["images"][2]["file_name"] = "deep/3.png"
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(data))
    assert open_detection(tmp_path, "train").read(2).size == (48, 40)


# images alone


def test_images_without_annotations_have_empty_targets(tmp_path):
    write_split(tmp_path / "coco", "broken, and not read", "train2017")
    write_split(tmp_path / "plain", None)
    idx_folder(tmp_path / "idx")
    paths = [(tmp_path / "coco", 3), (tmp_path / "plain", 3), (tmp_path / "plain" / "train", 3)]
    for path, count in [*paths, (tmp_path / "idx", 12)]:
        source = open_detection(path, "train", annotated=False)
        assert len(source) == count and source.category_ids == [] and source.table.dropped == {}
        assert source.target(0)["boxes"].shape == (0, 4)
        assert source.target(0)["labels"].dtype == torch.int64
        assert source.read(0).mode == "RGB"


def test_images_without_annotations_have_no_ground_truth():
    for path in (SAMPLE, None):
        source = open_detection(path, "val", annotated=False)
        with pytest.raises(ValueError, match="opened without annotations; expected"):
            source.ground_truth()


# what is refused


def test_missing_images_are_counted_and_three_named(tmp_path):
    with pytest.raises(ValueError, match=r"5 of 8 images are not in .*4\.png, 5\.png, 6\.png; exp"):
        open_train(tmp_path, GOOD, count=8)


@pytest.mark.parametrize("name", ["train", "train2017"])
def test_folder_without_annotation_file_is_refused(tmp_path, name):
    write_split(tmp_path, None, name)
    expected = r"expected .*instances_train.json.*without annotations: --unlabeled --teacher"
    message = f"{name}/ and no annotation file; {expected} DETECTOR"
    with pytest.raises(ValueError, match=message):
        open_detection(tmp_path, "train")


def test_annotations_without_images_and_no_folder_are_told_apart(tmp_path):
    write_split(tmp_path, instances(3, GOOD))
    (tmp_path / "train").rename(tmp_path / "pictures")
    with pytest.raises(ValueError, match=r"no train images and instances_train\.json; expected"):
        open_detection(tmp_path, "train")
    with pytest.raises(ValueError, match="there is no such folder; expected"):
        open_detection(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="it is a file; expected"):
        open_detection(tmp_path / "annotations" / "instances_train.json", "val")


def test_image_of_another_size_than_its_annotations_is_refused_when_read(tmp_path):
    data = instances(3, GOOD)
    data["images"][1]["width"] = 50
    source = open_detection(write_split(tmp_path, data), "train")
    with pytest.raises(ValueError, match=r"48x40 pixels where instances_train\.json says 50x40"):
        source.read(1)


def test_annotations_of_which_no_size_is_right_are_refused_at_once(tmp_path):
    data = instances(3, GOOD)
    for image in data["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    folder = write_split(tmp_path, data)
    with pytest.raises(ValueError, match=r"none of the first 3 images has the size .*exchanged"):
        open_detection(folder, "train")


@pytest.mark.parametrize("annotated", [True, False])
def test_image_too_long_for_a_detector_is_replaced_with_the_reason(tmp_path, caplog, annotated):
    data = instances(3, GOOD[:2])
    data["images"][1] |= {"width": 1, "height": 20000}
    folder = write_split(tmp_path, data)
    Image.new("RGB", (1, 20000)).save(folder / "train" / "2.png")
    source = open_detection(folder, "train", annotated=annotated)
    batch = next(iter(make_detection_loader(source, 3, train=False)))
    assert batch.failed.tolist() == [-1, 1, -1] and batch.indices.tolist() == [0, 2, 2]
    assert "1x20000 pixels; expected sides of at most 100 to 1" in caplog.text


@pytest.mark.parametrize(("width", "height"), [(48, 40), (40, 48)])
def test_image_is_turned_as_its_boxes_were_drawn(tmp_path, width, height):
    data = instances(3, GOOD[1:2])
    data["images"][0] |= {"width": width, "height": height}
    folder = write_split(tmp_path, data)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, 48x40; upright 40x48
    path = folder / "train" / data["images"][0]["file_name"]
    Image.fromarray(photo()).save(path, exif=exif)
    source = open_detection(folder, "train")
    stored = np.asarray(Image.open(path).convert("RGB"))
    expected = stored if width == 48 else np.rot90(stored, -1)
    np.testing.assert_array_equal(np.asarray(source.read(0)), expected)


def test_boxes_in_shares_of_the_image_are_refused(tmp_path):
    write_split(tmp_path, instances(3, [box(10, 3, 0.1, 0.2, 0.5, 0.5), box(20, 7, 0, 0, 1, 0.9)]))
    with pytest.raises(ValueError, match=r"all boxes lie between 0 and 1.*Multiply"):
        open_detection(tmp_path, "train")


def test_the_training_images_are_not_measured_on(tmp_path):
    for name in ("train", "val"):
        write_split(tmp_path, instances(3, [box(10, 3, 4, 4, 8, 8)]), name)
    assert len(open_detection(tmp_path, "train", train_folder="val")) == 3
    with pytest.raises(ValueError, match="no val images and no annotation file"):
        open_detection(tmp_path, "val", train_folder="val")
    with pytest.raises(ValueError, match="got val, which is the training folder too"):
        open_detection(tmp_path, "val", train_folder="val", val_folder="val")
