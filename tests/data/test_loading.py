import logging

import numpy as np
import pytest
import torch
from image_files import class_tree, photo, save, text_named_jpg, truncate
from PIL import Image
from torch._utils import ExceptionWrapper

from mgd_ssl.data import (
    ArraySource,
    Batch,
    CenterCrop,
    DecodeError,
    DecodeGuard,
    ImageDataset,
    RandomCrops,
    make_loader,
    open_source,
    shorter_side,
    subset,
)


def array_source(count: int = 40, side: int = 8, color: bool = False) -> ArraySource:
    shape = (count, side, side, 3) if color else (count, side, side)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return ArraySource(images, np.arange(count) % 7)


def bad_batch(source_length: int, bad: list[int], size: int) -> Batch:
    failed = torch.tensor(bad + [-1] * (size - len(bad)))
    return Batch(torch.zeros(size, 3, 1, 1, dtype=torch.uint8), failed, failed, failed)


# sizes


def test_shorter_side_is_256_for_224_and_small_images_keep_their_size():
    assert [shorter_side(s) for s in (224, 112, 96, 95, 32)] == [256, 128, 110, 95, 32]
    assert CenterCrop.of(224) == CenterCrop(256, 224) and CenterCrop.of(48) == CenterCrop(48, 48)
    values = {"shorter_side": 256, "center": 224, "interpolation": "bilinear", "antialias": True}
    assert CenterCrop.of(224).to_dict() == values


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize(("resize", "crop"), [(8, 8), (12, 12), (12, 10), (6, 5)])
def test_whole_batches_of_an_array_equal_images_read_one_by_one(color, resize, crop):
    source = subset(array_source(color=color), 20, seed=1)
    dataset = ImageDataset(source, CenterCrop(resize, crop))
    batch = dataset.__getitems__([3, 0, 11])
    for row, index in enumerate([3, 0, 11]):
        sample = dataset[index]
        assert torch.equal(batch.images[row], sample.image)
        assert (sample.label, sample.index, sample.failed) == (batch.labels[row], index, -1)
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (3, 3, crop, crop)
    assert batch.indices.tolist() == [3, 0, 11] and batch.failed.tolist() == [-1, -1, -1]


def test_unlabeled_images_have_label_minus_one(tmp_path):
    save(tmp_path / "a.png", photo())
    folder, array = open_source(tmp_path, "train"), ArraySource(np.zeros((1, 4, 4), np.uint8))
    for source in (folder, array):
        batch = ImageDataset(source, CenterCrop(8, 8)).__getitems__([0])
        assert batch.labels.tolist() == [-1] and batch.labels.dtype == torch.int64


# loaders


@pytest.mark.parametrize(("size", "resize"), [(112, 128), (64, 64)])
def test_evaluation_gives_the_centre_of_the_resized_image(tmp_path, size, resize):
    save(tmp_path / "a.png", photo())
    source = open_source(tmp_path, "train")
    for train in (False, True):
        batch = next(iter(make_loader(source, size, 1, train=train)))
        expected = ImageDataset(source, CenterCrop(resize, size))[0].image
        assert torch.equal(batch.images[0], expected)


def test_evaluation_gives_every_image_once_in_order():
    loader = make_loader(array_source(10), 8, 4, train=False)
    got = [batch.indices.tolist() for batch in loader]
    assert got == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and len(loader) == 3


def test_iterating_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for _ in make_loader(array_source(), 8, 8, train=True):
        pass
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_resume_where_they_are_told_and_agree_with_none(tmp_path, start_method):
    source = open_source(class_tree(tmp_path, {"a": 9, "b": 9}), "train", labeled=True)
    wanted = {"train": True, "seed": 4, "crops": RandomCrops(16, 2, seed=4)}
    plain = make_loader(source, 16, 3, **wanted)
    workers = make_loader(source, 16, 3, **wanted, workers=1, start_method=start_method)
    workers.set_position(0)
    next(iter(workers))  # abandoned, with batches already under way
    for position in ((2, 0), (2, 4), (3, 1)):
        plain.set_position(*position)
        workers.set_position(*position)
        expected, got = list(plain), list(workers)
        assert len(got) == len(expected) == 6 - position[1]
        for a, b in zip(got, expected, strict=True):
            assert isinstance(a, Batch)
            assert all(map(torch.equal, a[:4], b[:4]))


# random crops


def crops_of(loader) -> dict[int, torch.Tensor]:
    """Crops by the index of their image."""
    found: dict[int, torch.Tensor] = {}
    for batch in loader:
        found |= dict(zip(batch.indices.tolist(), batch.images, strict=True))
    return found


def folder_source(tmp_path):
    return open_source(class_tree(tmp_path, {"a": 9, "b": 9}), "train")


def small_source(_):
    return array_source(18, side=20)


@pytest.mark.parametrize("opened", [folder_source, small_source])
def test_crops_do_not_depend_on_batches_or_processes_and_change_with_the_epoch(tmp_path, opened):
    source, crops = opened(tmp_path), RandomCrops(16, 2, seed=5)
    whole = make_loader(source, 16, 18, train=True, crops=crops)
    shares = [
        make_loader(source, 16, 3, train=True, crops=crops, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    for loader in (whole, *shares):
        loader.set_position(4)
    expected = crops_of(whole)
    got = crops_of(shares[0]) | crops_of(shares[1])
    assert len(got) == len(expected) == 18
    assert all(torch.equal(got[index], expected[index]) for index in expected)
    first, second = expected[7]
    assert first.shape == (3, 16, 16) and not torch.equal(first, second)
    whole.set_position(5)
    assert not torch.equal(crops_of(whole)[7], expected[7])


@pytest.mark.parametrize("opened", [folder_source, small_source])
def test_crops_of_a_resumed_epoch_are_those_of_the_uninterrupted_one(tmp_path, opened):
    loader = make_loader(opened(tmp_path), 16, 3, train=True, crops=RandomCrops(16, 2, seed=5))
    loader.set_position(2)
    expected = list(loader)[4:]
    again = make_loader(opened(tmp_path), 16, 3, train=True, crops=RandomCrops(16, 2, seed=5))
    again.set_position(2, 4)
    for a, b in zip(again, expected, strict=True):
        assert torch.equal(a.indices, b.indices) and torch.equal(a.images, b.images)


def test_crops_of_an_array_of_large_images_are_those_of_files(tmp_path):
    images = np.stack([photo(i, 150, 140) for i in range(3)])
    for i, image in enumerate(images):
        save(tmp_path / f"{i}.png", image)
    sources = (ArraySource(images), open_source(tmp_path, "train"))
    from_array, from_files = (
        next(iter(make_loader(source, 32, 3, train=True, crops=RandomCrops(32)))).images
        for source in sources
    )
    assert from_array.shape == (3, 1, 3, 32, 32) and torch.equal(from_array, from_files)


def test_replaced_image_is_cropped_with_the_numbers_of_the_one_that_failed(tmp_path):
    save(tmp_path / "1.png", photo())
    text_named_jpg(tmp_path / "0.jpg")
    dataset = ImageDataset(open_source(tmp_path, "train"), RandomCrops(16))
    batch = dataset.__getitems__([0, 1])
    assert batch.indices.tolist() == [1, 1] and batch.failed.tolist() == [0, -1]
    assert not torch.equal(batch.images[0], batch.images[1])


# files that cannot be decoded


@pytest.fixture
def damaged(tmp_path):
    """Class folders whose images 2 and 3 of 6 are a text file and a truncated PNG."""
    class_tree(tmp_path, {"a": 4, "b": 2})
    text_named_jpg(tmp_path / "a" / "2.jpg")
    (tmp_path / "a" / "2.png").unlink()
    truncate(tmp_path / "a" / "3.png")
    return open_source(tmp_path, "train", labeled=True)


def test_undecodable_file_is_replaced_by_the_next_decodable_one(damaged):
    dataset = ImageDataset(damaged, CenterCrop(16, 16))
    batch = dataset.__getitems__([1, 2, 3, 4])
    assert batch.failed.tolist() == [-1, 2, 3, -1]
    assert batch.indices.tolist() == [1, 4, 4, 4] and batch.labels.tolist() == [0, 1, 1, 1]
    assert torch.equal(batch.images[1], dataset[4].image)


def test_last_file_is_replaced_by_the_first(tmp_path):
    class_tree(tmp_path, {"a": 2})
    text_named_jpg(tmp_path / "z.jpg")
    sample = ImageDataset(open_source(tmp_path, "train"), CenterCrop(16, 16))[2]
    assert (sample.index, sample.failed) == (0, 2)


def test_folder_of_which_nothing_decodes_stops(tmp_path):
    for i in range(5):
        text_named_jpg(tmp_path / f"{i}.jpg")
    loader = make_loader(open_source(tmp_path, "train"), 16, 2, train=False)
    with pytest.raises(DecodeError, match=r"^5 images in a row .*0\.jpg.*Check the data"):
        next(iter(loader))


def test_error_that_a_worker_sends_keeps_its_plain_message():
    try:
        raise DecodeError("5 images in a row.")
    except DecodeError:
        sent = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DecodeError, match=r"^5 images in a row\.$"):
        sent.reraise()


def test_guard_names_and_counts_each_bad_file_once(damaged, caplog):
    guard = DecodeGuard(damaged, limit=0.5)
    batch = ImageDataset(damaged, CenterCrop(16, 16)).__getitems__(range(6))
    with caplog.at_level(logging.WARNING):
        guard.check(batch)
        guard.check(batch)
    assert len(caplog.messages) == 2
    assert caplog.messages[0].endswith("2.jpg (no image of a known format)")
    assert caplog.messages[1].endswith("3.png (damaged: image file is truncated)")
    assert guard.unreadable == 2


def test_guard_stops_past_its_limit_and_names_the_files(damaged):
    batch = ImageDataset(damaged, CenterCrop(16, 16)).__getitems__(range(6))
    with pytest.raises(DecodeError, match=r"2 of 6 images.*2\.jpg.*3\.png.*at most 1\.0%"):
        DecodeGuard(damaged).check(batch)


def test_guard_lets_ten_bad_files_in_the_first_thousand_of_a_large_set_pass():
    source = array_source(5000, side=1)
    guard = DecodeGuard(source)
    guard.check(bad_batch(5000, list(range(10)), 16))
    with pytest.raises(DecodeError, match="11 of 32"):
        guard.check(bad_batch(5000, [10], 16))


def test_guard_judges_by_the_images_seen_once_they_are_many():
    guard = DecodeGuard(array_source(5000, side=1))
    guard.check(bad_batch(5000, [], 3000))
    guard.check(bad_batch(5000, list(range(30)), 100))
    with pytest.raises(DecodeError):
        guard.check(bad_batch(5000, [40, 41], 2))


def test_guard_does_not_count_a_bad_file_again_in_the_next_epochs():
    guard = DecodeGuard(array_source(300, side=1))
    for _ in range(4):  # the shuffle draws both bad files early in an epoch
        guard.check(bad_batch(300, [3, 4], 32))
        guard.check(bad_batch(300, [], 268))
    with pytest.raises(DecodeError, match="4 of 300 images"):
        guard.check(bad_batch(300, [5, 6], 32))


def test_guard_refuses_a_limit_that_is_no_share():
    with pytest.raises(ValueError, match=r"share in \[0, 1\]"):
        DecodeGuard(array_source(), limit=5)


# EXIF orientation


def test_loader_turns_images_unless_told_otherwise(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(photo(height=40, width=40)).save(tmp_path / "a.png", exif=exif)
    upright, stored = (
        next(iter(make_loader(open_source(tmp_path, "train"), 40, 1, train=False, exif=exif)))
        for exif in (True, False)
    )
    assert torch.equal(upright.images, stored.images.rot90(1, (2, 3)))
    assert not torch.equal(upright.images, stored.images)
