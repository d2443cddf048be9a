import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from coco_folder import SAMPLE
from image_files import idx_folder

from mgd_ssl.data import ArraySource, open_source
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.detection.scenes import _visible, generate_scene, generate_scenes, write_coco

RECIPE = Path(__file__).parents[2] / "recipes" / "make_detection.py"


@pytest.fixture(scope="module")
def clothes():
    return open_source(None, "train")


def bounding_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


# scenes


def test_boxes_are_tight_around_what_is_seen_of_opaque_items():
    """Opaque squares leave one exact color each, so the picture alone tells the boxes."""
    squares = np.full((3, 28, 28), 255, np.uint8)
    counts = []
    for index in range(40):
        scene, boxes, _ = generate_scene(squares, np.arange(3), 0, index)
        colors, pixels = np.unique(scene.reshape(-1, 3), axis=0, return_counts=True)
        flat = colors[pixels >= 0.3 * 18**2]  # the canvas is textured
        seen = [bounding_box((scene == color).all(-1)) for color in flat]
        assert sorted(seen) == sorted(boxes.tolist())
        counts.append(len(boxes))
    assert set(counts) == {1, 2, 3, 4, 5, 6}


def test_boxes_enclose_all_pixels_that_differ_from_the_bare_canvas(clothes):
    labels, black = clothes.labels, np.zeros_like(clothes.images)
    for index in range(40):
        scene, boxes, _ = generate_scene(clothes.images, labels, 0, index)
        canvas, none, _ = generate_scene(black, labels, 0, index)
        assert len(none) == 0
        changed = bounding_box((scene != canvas).any(-1))
        assert changed == [*boxes[:, :2].min(0), *boxes[:, 2:].max(0)]


def test_labels_are_those_of_the_items():
    """Opacity tells the items: squares of class 0, wide bars of class 1."""
    items = np.full((2, 28, 28), 255, np.uint8)
    items[1, :10] = items[1, 18:] = 0
    for index in range(40):
        _, boxes, labels = generate_scene(items, np.array([0, 1]), 0, index)
        if len(boxes) == 1:
            width, height = boxes[0, 2:] - boxes[0, :2]
            assert labels.tolist() == [int(height < width)]


def test_scene_depends_on_seed_and_index_alone(clothes):
    few, many = generate_scenes(clothes, 3, seed=4), generate_scenes(clothes, 6, seed=4)
    for index in range(3):
        scene, boxes, labels = generate_scene(clothes.images, clothes.labels, 4, index)
        for source in (few, many):
            assert np.array_equal(np.asarray(source.read(index)), scene)
            assert np.array_equal(source.table.objects(index).boxes, boxes)
            assert np.array_equal(source.table.objects(index).labels, labels)
    other = generate_scenes(clothes, 3, seed=5)
    assert not np.array_equal(other.read(0), few.read(0))


def test_scenes_have_the_sizes_that_are_documented(clothes):
    source = generate_scenes(clothes, 60)
    sides = source.table.sizes
    assert sides.min() >= 112 and sides.max() <= 160 and len(np.unique(sides[:, 0])) > 20
    for index in range(60):
        image, boxes = source.read(index), source.table.objects(index).boxes
        assert image.mode == "RGB" and image.size == tuple(sides[index, ::-1])
        assert 1 <= len(boxes) <= 6
        assert (boxes >= 0).all() and (boxes[:, 2:] <= sides[index, ::-1]).all()
        assert (boxes[:, 2:] - boxes[:, :2] <= 64).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_item_covered_by_more_than_seventy_per_cent_is_left_out():
    below, above = np.zeros((2, 20, 20), np.uint8)
    below[5:15, 5:15] = 1
    above[0:12, :] = 1  # covers rows 5 to 11: seventy per cent
    assert _visible([below, above]) == ([0, 1], [[5, 12, 15, 15], [0, 0, 20, 12]])
    above[12, 5] = 1
    assert _visible([below, above]) == ([1], [[0, 0, 20, 13]])


def test_item_that_is_left_out_covers_nothing():
    bottom, middle, top = np.zeros((3, 20, 20), np.uint8)
    top[0:10, 5:20] = 1
    middle[0:10, 0:20] = 1  # hidden to three quarters by the top, and would hide the bottom
    bottom[0:10, 0:10] = 1  # hidden to one half by the top
    assert _visible([bottom, middle, top]) == ([0, 2], [[0, 0, 5, 10], [5, 0, 20, 10]])


# the embedded data


def test_embedded_scenes_train_and_val_show_different_items():
    train, val = open_detection(None, "train"), open_detection(None, "val")
    assert (len(train), len(val)) == (300, 100) and train.in_memory
    assert train.classes == val.classes and train.category_ids == list(range(1, 11))
    assert not np.array_equal(train.table.sizes[:100], val.table.sizes)
    labels = np.concatenate([val.table.objects(index).labels for index in range(100)])
    assert np.unique(labels).tolist() == list(range(10))


# files


@pytest.mark.parametrize(("split", "count", "seed"), [("train", 14, 0), ("val", 6, 1)])
def test_sample_in_the_repository_is_what_the_generator_makes(split, count, seed):
    stored = open_detection(SAMPLE, split)
    made = generate_scenes(open_source(None, split), count, seed)
    assert stored.classes == made.classes and stored.category_ids == made.category_ids
    assert stored.ground_truth() == made.ground_truth()
    for index in range(count):
        a, b = (np.asarray(source.read(index)).astype(int) for source in (stored, made))
        assert a.shape == b.shape and np.abs(a - b).mean() < 8  # JPEG


def test_recipe_writes_a_set_from_idx_files(tmp_path, monkeypatch, capsys):
    out, items = tmp_path / "out", idx_folder(tmp_path / "idx")
    arguments = [str(out), "--items", str(items), "--train", "3", "--val", "2"]
    monkeypatch.setattr(sys, "argv", [str(RECIPE), *arguments])
    runpy.run_path(str(RECIPE), run_name="__main__")
    assert "instances_val.json: 2 scenes" in capsys.readouterr().out
    train, val = open_detection(out, "train"), open_detection(out, "val")
    assert (len(train), len(val)) == (3, 2) and train.classes == ["0", "1", "2"]
    made = generate_scenes(open_source(items, "train"), 3)
    assert train.ground_truth() == made.ground_truth()


def test_split_that_is_there_is_not_written_over(tmp_path, clothes):
    source = generate_scenes(clothes, 1)
    file = write_coco(source, tmp_path, "train")
    before = file.read_bytes()
    with pytest.raises(ValueError, match="train is there already; expected a folder without it"):
        write_coco(source, tmp_path, "train")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("shape", "labels", "count"),
    [((2, 8, 8, 3), [0, 1], 1), ((2, 8, 8), None, 1), ((2, 8, 8), [0, 1], 0)],
)
def test_items_that_make_no_scenes_are_refused(shape, labels, count):
    items = ArraySource(np.zeros(shape, np.uint8), None if labels is None else np.array(labels))
    with pytest.raises(ValueError, match=r"expected at least 1 scene from gray images .* labels\."):
        generate_scenes(items, count)
