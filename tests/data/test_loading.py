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
    CanvasDataset,
    DecodeError,
    DecodeGuard,
    canvas_size,
    make_loader,
    open_source,
    subset,
)
from mgd_ssl.data.loading import resize_and_crop


def array_source(count: int = 40, side: int = 8, colour: bool = False) -> ArraySource:
    shape = (count, side, side, 3) if colour else (count, side, side)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return ArraySource(images, np.arange(count) % 7)


def bad_batch(source_length: int, bad: list[int], size: int) -> Batch:
    failed = torch.tensor(bad + [-1] * (size - len(bad)))
    return Batch(torch.zeros(size, 3, 1, 1, dtype=torch.uint8), failed, failed, failed)


# canvases


def test_canvas_is_256_for_224_and_small_images_keep_their_size():
    assert [canvas_size(s) for s in (224, 112, 96, 95, 32)] == [256, 128, 110, 95, 32]


def test_resize_agrees_with_pillow_bilinear():
    image = photo(height=60, width=90)
    got = resize_and_crop(torch.from_numpy(image.copy()).permute(2, 0, 1), 32, 32)
    reference = Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(reference)[:, 8:40].astype(int)
    assert np.abs(got.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(("resize", "crop"), [(8, 8), (12, 12), (12, 10), (6, 5)])
def test_whole_batches_of_an_array_equal_images_read_one_by_one(colour, resize, crop):
    dataset = CanvasDataset(subset(array_source(colour=colour), 20, seed=1), resize, crop)
    batch = dataset.__getitems__([3, 0, 11])
    for row, index in enumerate([3, 0, 11]):
        sample = dataset[index]
        assert torch.equal(batch.images[row], sample.image)
        assert (sample.label, sample.index, sample.failed) == (batch.labels[row], index, -1)
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (3, 3, crop, crop)
    assert batch.indices.tolist() == [3, 0, 11] and batch.failed.tolist() == [-1, -1, -1]


def test_unlabelled_images_have_label_minus_one(tmp_path):
    save(tmp_path / "a.png", photo())
    folder, array = open_source(tmp_path, "train"), ArraySource(np.zeros((1, 4, 4), np.uint8))
    for source in (folder, array):
        batch = CanvasDataset(source, 8, 8).__getitems__([0])
        assert batch.labels.tolist() == [-1] and batch.labels.dtype == torch.int64


@pytest.mark.parametrize(("resize", "crop"), [(8, 9), (8, 0)])
def test_crop_that_does_not_fit_is_refused(resize, crop):
    with pytest.raises(ValueError, match="expected 0 < crop <= resize"):
        CanvasDataset(array_source(), resize, crop)


# loaders


def test_training_canvas_is_larger_than_the_evaluation_crop(tmp_path):
    save(tmp_path / "a.png", photo())
    source = open_source(tmp_path, "train")
    train = next(iter(make_loader(source, 112, 1, train=True)))
    val = next(iter(make_loader(source, 112, 1, train=False)))
    assert train.images.shape[-2:] == (128, 128) and val.images.shape[-2:] == (112, 112)
    own = next(iter(make_loader(source, 112, 1, train=True, resize=140)))
    assert own.images.shape[-2:] == (140, 140)
    assert torch.equal(val.images, train.images[..., 8:120, 8:120])


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
    source = open_source(class_tree(tmp_path, {"a": 9, "b": 9}), "train", labelled=True)
    plain = make_loader(source, 16, 3, train=True, seed=4)
    workers = make_loader(source, 16, 3, train=True, seed=4, workers=1, start_method=start_method)
    workers.set_position(0)
    next(iter(workers))  # abandoned, with batches already under way
    for position in ((2, 0), (2, 4), (3, 1)):
        plain.set_position(*position)
        workers.set_position(*position)
        expected, got = list(plain), list(workers)
        assert len(got) == len(expected) == 6 - position[1]
        for a, b in zip(got, expected, strict=True):
            assert isinstance(a, Batch)
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# files that cannot be decoded


@pytest.fixture
def damaged(tmp_path):
    """Class folders whose images 2 and 3 of 6 are a text file and a truncated PNG."""
    class_tree(tmp_path, {"a": 4, "b": 2})
    text_named_jpg(tmp_path / "a" / "2.jpg")
    (tmp_path / "a" / "2.png").unlink()
    truncate(tmp_path / "a" / "3.png")
    return open_source(tmp_path, "train", labelled=True)


def test_undecodable_file_is_replaced_by_the_next_decodable_one(damaged):
    dataset = CanvasDataset(damaged, 16, 16)
    batch = dataset.__getitems__([1, 2, 3, 4])
    assert batch.failed.tolist() == [-1, 2, 3, -1]
    assert batch.indices.tolist() == [1, 4, 4, 4] and batch.labels.tolist() == [0, 1, 1, 1]
    assert torch.equal(batch.images[1], dataset[4].image)


def test_last_file_is_replaced_by_the_first(tmp_path):
    class_tree(tmp_path, {"a": 2})
    text_named_jpg(tmp_path / "z.jpg")
    sample = CanvasDataset(open_source(tmp_path, "train"), 16, 16)[2]
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


def test_guard_names_each_bad_file_once_and_counts_every_time(damaged, caplog):
    guard = DecodeGuard(damaged, limit=0.5)
    batch = CanvasDataset(damaged, 16, 16).__getitems__(range(6))
    with caplog.at_level(logging.WARNING):
        guard.check(batch)
        guard.check(batch)
    assert (guard.seen, guard.failures) == (12, 4)
    assert len(caplog.messages) == 2
    assert caplog.messages[0].endswith("2.jpg (no image of a known format)")
    assert caplog.messages[1].endswith("3.png (damaged: image file is truncated)")
    assert guard.unreadable == 2


def test_guard_stops_past_its_limit_and_names_the_files(damaged):
    batch = CanvasDataset(damaged, 16, 16).__getitems__(range(6))
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
