"""Annotation files: what their entries may hold, and what is said of the others."""

import os

import pytest
from coco_folder import box, instances, write_split

from mgd_ssl.detection.opening import open_detection

GOOD = [
    box(20, 20, 5, 6, 10, 12),
    box(10, 7, 1, 2, 3, 4.5, area=7.0),
    box(20, 3, 0, 0, 48, 40, iscrowd=1, area=99.0),
    box(20, 3, 8, 8, 2, 2),
]


def open_train(tmp_path, annotations, count=3):
    return open_detection(write_split(tmp_path, instances(count, annotations)), "train")


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "no annotations; expected boxes"),
        ([box(10, 3, 1, 1, 0, 2), box(10, 3, 0, 0, 9, 9, iscrowd=1)], "1 no area, 1 crowd"),
        ([box(10, 3, 9, 9, 1e-8, 5)], "1 no area"),  # none in float32
        ([*GOOD, box(15, 3, 0, 0, 2, 2)], '1 annotations whose "image_id" is not in images.* 15;'),
        ([*GOOD, box(10, 4, 0, 0, 2, 2)], '1 annotations whose "category_id" is not in cat.* 4;'),
        ([*GOOD, box(10, 3, 0, 0, 2)], r'annotations\[4\] has "bbox" \[0, 0, 2\]; expected'),
        ([box(10, 3, 0, 0, 2, float("nan"))], r'annotations\[0\] has "bbox" .*nan'),
        ([box(10, 3, 0, 0, 2, "9")], r"annotations\[0\] has \"bbox\" .*'9'"),
        ([box(10, 3, 0, 0, 2, 2, area="big")], r"annotations\[0\] has \"area\" 'big'"),
        ([{"image_id": 10, "category_id": 3}], r'annotations\[0\] has no "bbox"'),
        ([box(10, 3, 0, 0, 2, 1e400)], r'"bbox" .*inf.*; expected four finite numbers'),
        ([box(10, 3, 0, 0, 2, 10**400)], r'annotations\[0\] has "bbox" .*…; expected'),
        ([box(10, 3, 0, 0, 2, True)], r'annotations\[0\] has "bbox"'),
        ([box(10, 3, 0, 0, 2, 2) | {"bbox": {"x": 1}}], r'has "bbox" .*; expected four'),
        ([box(10, 3, 0, 0, 2, 2, area=-4)], r'has "area" -4; expected a finite number of 0 or'),
        ([box(10, 3, 0, 0, 2, 2, area=[4])], r'has "area" \[4\]'),
        ([box(10, 3, 0, 0, 2, 2, iscrowd="no")], r"has \"iscrowd\" 'no'; expected 0 or 1"),
        ([box(10, 3, 0, 0, 2, 2, iscrowd=2)], r'has "iscrowd" 2'),
        ([box(10, 3, 0, 0, 2, 2, iscrowd=[0])], r'has "iscrowd" \[0\]'),
        ([box(10, 3, 0, 0, 2, 2) | {"category_id": [3]}], r'has "category_id" \[3\]'),
        ([box(10, 3, 0, 0, 2, 2) | {"image_id": "10"}], r"has \"image_id\" '10'"),
        ([[1, 2]], r"annotations\[0\] is list, no object"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused(tmp_path, annotations, message):
    with pytest.raises(ValueError, match=message):
        open_train(tmp_path, annotations)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("images", {"width": 0}, r'images\[0\] has "width" 0'),
        ("images", {"file_name": 5}, r'images\[0\] has "file_name" 5'),
        ("images", {"width": "48"}, r"images\[0\] has \"width\" '48'; expected pixels"),
        ("images", {"height": float("nan")}, r'images\[0\] has "height" nan'),
        ("images", {"height": -40}, r'images\[0\] has "height" -40'),
        ("images", {"width": [48]}, r'images\[0\] has "width" \[48\]'),
        ("images", {"file_name": "../1.png"}, "expected a path that stays below the folder"),
        ("images", {"file_name": "/etc/1.png"}, "expected a path that stays below the folder"),
        ("images", {"file_name": "a/../../1.png"}, "expected a path that stays below the folder"),
        ("images", {"file_name": ""}, "expected a path that stays below the folder"),
        ("images", {"file_name": "a\0.png"}, "expected a path that stays below the folder"),
        ("images", {"file_name": "\ud800.png"}, "expected a path that stays below the folder"),
        ("images", {"file_name": "2.png"}, r"1 images are named more than once, .* 2\.png"),
        ("images", {"id": "a"}, r"images\[0\] has \"id\" 'a'"),
        ("images", {"id": 2**63}, r'images\[0\] has "id"'),
        ("images", {"id": 20}, "1 ids occur more than once in images, among them 20; expected"),
        ("categories", {"id": 3}, "1 ids occur more than once in categories, among them 3"),
        ("categories", {"name": None}, r'categories\[0\] has "name" None'),
    ],
)
def test_images_and_categories_that_cannot_be_used_are_refused(tmp_path, section, change, message):
    data = instances(3, GOOD)
    data[section][0] |= change
    with pytest.raises(ValueError, match=message):
        open_detection(write_split(tmp_path, data), "train")


@pytest.mark.parametrize("flag", ["0", 0, False, None])
def test_flags_that_say_no_are_no_crowds(tmp_path, flag):
    source = open_train(tmp_path, [box(10, 3, 1, 1, 9, 9, iscrowd=flag)])
    assert len(source.target(0)["boxes"]) == 1 and source.table.dropped == {}


@pytest.mark.parametrize("flag", ["1", 1, True])
def test_flags_that_say_yes_are_crowds_and_counted_in_the_log(tmp_path, flag, caplog):
    boxes = [box(10, 3, 1, 1, 9, 9, iscrowd=flag), box(10, 3, 1, 1, 9, 9)]
    with caplog.at_level("WARNING"):
        source = open_train(tmp_path, boxes)
    assert len(source.target(0)["boxes"]) == 1 and source.table.dropped == {"crowd": 1}
    assert "1 crowd" in caplog.text


def test_folders_and_pipes_in_an_images_place_are_missing_images(tmp_path):
    write_split(tmp_path, instances(3, GOOD))
    (tmp_path / "train" / "1.png").unlink()
    os.mkfifo(tmp_path / "train" / "1.png")
    (tmp_path / "train" / "2.png").unlink()
    (tmp_path / "train" / "2.png").mkdir()
    with pytest.raises(ValueError, match=r"2 of 3 images are not in .* 1\.png, 2\.png; expected"):
        open_detection(tmp_path, "train")


def test_images_that_the_annotations_do_not_name_are_counted(tmp_path):
    source = open_train(tmp_path, GOOD, count=2)
    assert source.skipped == "1 images that instances_train.json does not name"


def test_a_split_is_found_by_its_name_or_chosen(tmp_path):
    for name in ("Train", "train2014"):
        write_split(tmp_path, instances(3, GOOD), name)
    with pytest.raises(ValueError, match=r"Train/, train2014/ all have .*--train-folder Train"):
        open_detection(tmp_path, "train")
    source = open_detection(tmp_path, "train", train_folder="train2014")
    assert source.describe(0).endswith("train2014/1.png")


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [{"0": {}}, "[]", 3, None])
def test_sections_of_another_type_are_refused(tmp_path, section, value):
    data = instances(3, GOOD) | {section: value}
    with pytest.raises(ValueError, match=f'no list "{section}"; expected'):
        open_detection(write_split(tmp_path, data), "train")


def test_nesting_without_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected COCO's JSON"):
        open_detection(write_split(tmp_path, "[" * 200_000), "train")


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_file_without_one_of_the_lists_is_refused(tmp_path, section):
    data = instances(3, GOOD)
    del data[section]
    with pytest.raises(ValueError, match=f'no list "{section}"; expected the lists images, anno'):
        open_detection(write_split(tmp_path, data), "train")


@pytest.mark.parametrize("text", ['{"images": [', "", "\x00"])
def test_broken_json_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"instances_train\.json: .*expected COCO's JSON\. Write"):
        open_detection(write_split(tmp_path, text), "train")


def test_file_that_holds_no_dictionary_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no list "images"'):
        open_detection(write_split(tmp_path, "[1]"), "train")
