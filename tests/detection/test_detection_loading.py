from pathlib import Path

import numpy as np
import pytest
import torch
from coco_folder import SAMPLE, box, instances, write_split
from image_files import text_named_jpg, truncate
from torchvision.io import decode_image

from mgd_ssl.data import DecodeError, DecodeGuard, subset
from mgd_ssl.detection.categories import check_same_categories
from mgd_ssl.detection.loading import DetectionBatch, make_detection_loader
from mgd_ssl.detection.opening import open_detection


@pytest.fixture(scope="module")
def train():
    return open_detection(SAMPLE, "train")


def same(a: DetectionBatch, b: DetectionBatch) -> bool:
    return (
        all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
        and all(
            torch.equal(x[key], y[key])
            for x, y in zip(a.targets, b.targets, strict=True)
            for key in ("boxes", "labels")
        )
        and torch.equal(a.indices, b.indices)
        and torch.equal(a.failed, b.failed)
    )


# the repository's own sample


def test_sample_has_both_splits_of_one_set_of_categories(train):
    val = open_detection(SAMPLE, "val")
    check_same_categories(train, val)
    assert (len(train), len(val)) == (14, 6) and train.table.dropped == val.table.dropped == {}
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) < 1e6


# loaders


def test_evaluation_gives_every_image_in_order_with_its_own_size_and_boxes(train):
    loader = make_detection_loader(train, 4, train=False)
    batches = list(loader)
    assert [b.indices.tolist() for b in batches] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13],
    ]  # fmt: skip
    assert len(loader) == 4
    for batch in batches:
        for image, target, index in zip(batch.images, batch.targets, batch.indices, strict=True):
            assert image.dtype == torch.uint8 and image.shape == (3, *train.table.sizes[index])
            boxes = train.table.objects(int(index)).boxes
            assert np.array_equal(target["boxes"].numpy(), boxes.astype(np.float32))
        assert (batch.failed == -1).all()
    assert torch.equal(batches[0].images[2], decode_image(train.describe(2)))


def test_processes_share_the_images_out(train):
    ranks = [
        make_detection_loader(train, 2, train=True, seed=3, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    one = make_detection_loader(train, 4, train=True, seed=3)
    for a, b, whole in zip(*ranks, one, strict=True):
        assert torch.cat([a.indices, b.indices]).tolist() == whole.indices.tolist()


def test_worker_resumes_where_it_is_told_and_agrees_with_none(train):
    plain = make_detection_loader(train, 4, train=True, seed=5)
    worker = make_detection_loader(train, 4, train=True, seed=5, workers=1)
    next(iter(worker))  # abandoned, with batches already under way
    for position in ((0, 0), (2, 1)):
        plain.set_position(*position)
        worker.set_position(*position)
        expected, got = list(plain), list(worker)
        assert len(got) == len(expected) == 3 - position[1]
        assert all(isinstance(a, DetectionBatch) for a in got)
        assert all(same(a, b) for a, b in zip(got, expected, strict=True))


def test_epochs_differ_and_the_global_generator_is_left_alone(train):
    loader = make_detection_loader(train, 7, train=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    orders = []
    for epoch in (0, 1):
        loader.set_position(epoch)
        orders.append(torch.cat([batch.indices for batch in loader]).tolist())
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == list(range(14))
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_larger_than_the_set_is_refused(train):
    with pytest.raises(ValueError, match=r"batch size 15 on 1 process.* 14 images"):
        make_detection_loader(train, 15, train=True)


# files that cannot be decoded


@pytest.fixture
def damaged(tmp_path):
    """Three images with one box each, the second of them truncated."""
    boxes = [box(10 * i, 3, i, i, 10, 10) for i in (1, 2, 3)]
    write_split(tmp_path, instances(3, boxes))
    truncate(tmp_path / "train" / "2.png")
    return open_detection(tmp_path, "train")


def test_undecodable_image_is_replaced_by_the_next_with_its_own_boxes(damaged):
    (batch,) = make_detection_loader(damaged, 3, train=False)
    assert batch.failed.tolist() == [-1, 1, -1] and batch.indices.tolist() == [0, 2, 2]
    assert torch.equal(batch.images[1], batch.images[2])
    assert [target["boxes"].tolist() for target in batch.targets] == [
        [[1, 1, 11, 11]], [[3, 3, 13, 13]], [[3, 3, 13, 13]],
    ]  # fmt: skip
    with pytest.raises(DecodeError, match=r"1 of 3 images.*2\.png"):
        DecodeGuard(damaged).check(batch)


def test_set_of_which_nothing_decodes_stops(damaged):
    for index in (0, 2):
        text_named_jpg(Path(damaged.describe(index)))
    with pytest.raises(DecodeError, match=r"^3 images in a row cannot be decoded"):
        next(iter(make_detection_loader(damaged, 2, train=False)))


# subsets


def test_subset_is_seeded_in_source_order_and_keeps_boxes_with_their_images(train):
    small = subset(train, 5, seed=1)
    positions = [train.table.image_ids.index(image_id) for image_id in small.table.image_ids]
    assert len(small) == 5 and positions == sorted(positions)
    for index, position in enumerate(positions):
        assert small.describe(index) == train.describe(position)
        assert np.array_equal(small.table.sizes[index], train.table.sizes[position])
        assert torch.equal(small.target(index)["boxes"], train.target(position)["boxes"])
    assert subset(train, 5, seed=1).table.image_ids == small.table.image_ids
    assert subset(train, 5, seed=2).table.image_ids != small.table.image_ids
    truth = small.ground_truth()
    assert {a["image_id"] for a in truth["annotations"]} <= set(small.table.image_ids)
    assert truth["categories"] == train.ground_truth()["categories"]


def test_subset_of_all_is_the_source_and_of_none_is_refused(train):
    assert subset(train, 14) is train
    with pytest.raises(ValueError, match="subset of 0 images"):
        subset(train, 0)


def test_subset_of_images_without_annotations_has_no_ground_truth():
    source = subset(open_detection(SAMPLE, "train", annotated=False), 3)
    assert source.target(0)["boxes"].shape == (0, 4)
    with pytest.raises(ValueError, match="opened without annotations"):
        source.ground_truth()
