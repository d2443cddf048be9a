"""Several sources are one, with labels that mean the same in all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from archive_files import names, png, write_tar
from image_files import class_tree, photo

from mgd_ssl.data import ArraySource, data_digest, data_line, make_loader, open_source, subset
from mgd_ssl.data.concat import ConcatSource, open_sources


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    class_tree(tmp_path / "a" / "train", {"cat": 2, "hen": 1})
    class_tree(tmp_path / "b" / "train", {"ant": 1, "cat": 3})
    class_tree(tmp_path / "b" / "val", {"cat": 2})
    return [tmp_path / "a", tmp_path / "b"]


def test_images_come_one_source_after_the_other_with_common_classes(places: list[Path]) -> None:
    source = open_sources(places, "train", labeled=True)
    parts = [open_source(place, "train", labeled=True) for place in places]
    assert names(source) == [name for part in parts for name in names(part)]
    assert source.classes == ["ant", "cat", "hen"]
    assert source.labels is not None and source.labels.tolist() == [1, 1, 2, 0, 1, 1, 1]
    for i in range(7):
        part, place = (parts[0], i) if i < 3 else (parts[1], i - 3)
        assert source.describe(i) == part.describe(place)
        assert source.encoded(i) == part.encoded(place)
        np.testing.assert_array_equal(source.read(i), part.read(place))
    assert source.name == f"{places[0]}/train + {places[1]}/train"


def test_validation_images_are_those_that_there_are_with_all_classes(places: list[Path]) -> None:
    source = open_sources(places, "val", labeled=True)
    assert len(source) == 2 and source.classes == ["ant", "cat", "hen"]
    assert source.labels is not None and source.labels.tolist() == [1, 1]
    with pytest.raises(ValueError, match="no validation images in any"):
        open_sources([places[0], places[0]], "val")


def test_batches_and_subsets_are_read_from_all(places: list[Path]) -> None:
    source = open_sources(places, "train")
    batch = next(iter(make_loader(source, 32, 7, train=False, workers=2)))
    alone = [next(iter(make_loader(open_source(p, "train"), 32, 9, train=False))) for p in places]
    assert torch.equal(batch.images, torch.cat([part.images for part in alone]))
    chosen = subset(source, 4, seed=1)
    assert len(names(chosen)) == 4 and set(names(chosen)) <= set(names(source))


def test_the_digest_takes_the_pixels_of_arrays_and_the_order_of_sources(tmp_path: Path) -> None:
    class_tree(tmp_path, {"a": 2, "b": 2})
    folder, images = open_source(tmp_path, "train"), np.stack([photo(1), photo(2)])
    first = data_digest(ConcatSource([folder, ArraySource(images)]))
    assert first == data_digest(ConcatSource([folder, ArraySource(images.copy())]))
    assert first != data_digest(ConcatSource([ArraySource(images), folder]))
    assert data_digest(ConcatSource([folder])) == data_digest(folder)
    images[1, 2, 3] ^= 1
    assert first != data_digest(ConcatSource([folder, ArraySource(images)]))


def test_labels_with_and_without_names_do_not_mix(tmp_path: Path, places: list[Path]) -> None:
    numbers = ArraySource(np.zeros((2, 4, 4), np.uint8), np.array([0, 5]))
    assert ConcatSource([numbers, numbers]).labels is not None
    folder = open_source(places[0], "train")
    with pytest.raises(ValueError, match="labels without names of classes, beside data with"):
        ConcatSource([folder, numbers])
    assert ConcatSource([folder, numbers], labeled=False).labels is None
    none = ArraySource(np.zeros((2, 4, 4), np.uint8))
    assert ConcatSource([folder, none, numbers]).labels is None
    with pytest.raises(ValueError, match="no source"):
        ConcatSource([])


def test_labels_of_a_subset_that_names_do_not_say_are_part_of_its_digest(tmp_path: Path) -> None:
    digests = set()
    for label in (b"0", b"1"):
        members = [(f"{i}.{e}", c) for i in range(3) for e, c in (("png", png(photo())), ("cls", label))]  # noqa: E501  # fmt: skip
        write_tar(tmp_path / label.decode() / "0.tar", members)
        digests.add(data_digest(subset(open_source(tmp_path / label.decode(), "train"), 2)))
    assert len(digests) == 2


def test_the_line_about_the_data_says_what_each_place_holds(places: list[Path]) -> None:
    train, val = (open_sources(places, split) for split in ("train", "val"))
    a, b = places
    assert data_line({"training": subset(train, 5), "kNN": val}) == (
        f"data: {a}/train (3 images, 2 classes) + {b}/train (4 images, 2 classes); together 7 "
        f"images, 3 classes: 5 for training; {b}/val (2 images, 1 of 3 classes): 2 for kNN"
    )


def test_labels_that_only_some_places_have_are_said_to_be_unused(places: list[Path]) -> None:
    numbers = ArraySource(np.zeros((2, 4, 4), np.uint8), np.array([0, 5]), name="digits")
    mixed = ConcatSource([open_source(places[0], "train"), numbers], labeled=False)
    said = data_line({"training": mixed})
    assert "no labels, because not all of them have labels with class names" in said


def test_no_place_is_the_embedded_sample() -> None:
    assert names(open_sources([], "val")) == names(open_source(None, "val"))
