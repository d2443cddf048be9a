"""The digest of a source: the same images wherever they lie, and no others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import class_tree

from mgd_ssl.data import ArraySource, data_digest, open_source, subset
from mgd_ssl.detection.annotations import AnnotationTable
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.detection.sources import DetectionSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_tree(tmp_path / "images", {"a": 2, "b": 2})


def digest(path: Path) -> str:
    return data_digest(open_source(path, "train"))


def test_a_link_a_copy_and_a_relative_path_are_the_same_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(folder)
    (folder.parent / "link").symlink_to("images")
    shutil.copytree(folder, folder.parent / "copy")
    monkeypatch.chdir(folder.parent)
    assert {digest(Path(p)) for p in ("link", "copy", "images", "./copy/")} == {before}


@pytest.mark.parametrize("change", ["renamed", "grown", "moved to another class", "swapped"])
def test_another_name_or_size_is_another_source(folder: Path, change: str) -> None:
    before, first = digest(folder), folder / "a" / "0.png"
    if change == "renamed":
        first.rename(folder / "a" / "3.png")
    elif change == "grown":
        first.write_bytes(first.read_bytes() + b"\0")
    elif change == "moved to another class":
        first.rename(folder / "b" / "3.png")
    else:  # as many images, of the same total size
        second, bytes_ = folder / "a" / "1.png", first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(bytes_)
    assert digest(folder) != before


def test_a_subset_is_its_own_images(folder: Path) -> None:
    source = open_source(folder, "train")
    assert data_digest(subset(source, 2, 0)) != data_digest(source)
    assert data_digest(subset(source, 4)) == data_digest(source)


def test_images_in_memory_count_by_pixels_and_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5000, 2, 2), dtype=np.uint8)
    labels = np.arange(5000) % 3
    before = data_digest(ArraySource(images, labels, name="here"))
    assert data_digest(ArraySource(images.copy(), labels, name="there")) == before
    assert data_digest(ArraySource(images, labels[::-1].copy())) != before
    images[4999, 1, 1] ^= 1
    assert data_digest(ArraySource(images, labels)) != before


def test_boxes_are_part_of_a_detection_source() -> None:
    source = open_detection(None, "train")
    plain = open_detection(None, "train", annotated=False)
    assert data_digest(source) == data_digest(open_detection(None, "train"))
    assert data_digest(source) != data_digest(plain)


def test_the_pixels_of_a_detection_source_in_memory_count() -> None:
    images = np.zeros((3, 8, 8), np.uint8)
    digests = [
        data_digest(DetectionSource(ArraySource(pixels), AnnotationTable.empty(3)))
        for pixels in (images, images.copy(), images + 1)
    ]
    assert digests[0] == digests[1] != digests[2]
