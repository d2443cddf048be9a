"""Rows come back as they were written, and damage is found."""

import json
import pickle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from mgd_ssl.cache import parts, teacher_cache
from mgd_ssl.cache.answers import Answers
from mgd_ssl.cache.manifest import MANIFEST, Manifest, StoredMap, read_manifest
from mgd_ssl.cache.parts import PartError, part_path, write_part
from mgd_ssl.cache.teacher_cache import TeacherCache

IMAGES, VIEWS, FEATURES = 10, 3, 5
MADE_FROM = Manifest(
    images=IMAGES,
    data="data",
    weights="weights",
    teacher={},
    views=VIEWS,
    size=8,
    seed=0,
    crop_min=0.2,
    crop_max=1.0,
    flip_p=0.5,
    exif=True,
    teacher_size=0,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    precision="32",
    grid=2,
    features=FEATURES,
    part_images=4,
    maps=(StoredMap("a", 3, 2, 2), StoredMap("b", 4, 1, 1)),
)


def answers(view: int) -> Answers:
    """Of all images."""
    torch.manual_seed(view)
    maps = [torch.randn(IMAGES, m.channels, m.height, m.width) for m in MADE_FROM.maps]
    return Answers(maps, torch.randn(IMAGES, FEATURES))


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    (tmp_path / MANIFEST).write_text(json.dumps(MADE_FROM.to_dict()))
    made = TeacherCache.open(tmp_path)
    for view, part in made.every():
        columns = answers(view).encode()
        rows = made.images(part)
        some = {name: column[rows.start : rows.stop] for name, column in columns.items()}
        write_part(part_path(tmp_path, view, part), some, made.manifest.identity)
    return made


def test_the_manifest_is_read_as_it_was_written(cache: TeacherCache) -> None:
    assert cache.manifest == MADE_FROM == Manifest(**vars(MADE_FROM))


@pytest.mark.parametrize("view", range(VIEWS))
def test_rows_of_any_images_in_any_order_are_their_own(cache: TeacherCache, view: int) -> None:
    images = np.array([9, 0, 3, 4, 3, 8])
    expected = answers(view).encode()
    for _ in range(2):  # the parts are open the second time
        got = cache.read(view, images)
        assert got.keys() == expected.keys()
        for name, column in got.items():
            assert torch.equal(column, expected[name][images])


def test_another_process_reads_the_same(cache: TeacherCache) -> None:
    cache.read(0, np.array([1]))
    copied = pickle.loads(pickle.dumps(cache))
    for name, column in cache.read(1, np.arange(IMAGES)).items():
        assert torch.equal(copied.read(1, np.arange(IMAGES))[name], column)


def test_the_bytes_of_a_view_are_counted(cache: TeacherCache) -> None:
    columns = cache.read(0, np.array([0]))
    assert cache.manifest.view_bytes == sum(c.nbytes for c in columns.values())


def test_a_whole_cache_misses_nothing(cache: TeacherCache) -> None:
    assert cache.missing(checksums=True) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, cut, garble, lambda path: path.write_bytes(b"")])
def test_a_part_that_is_not_as_it_was_written_is_missing(cache: TeacherCache, damage) -> None:
    damage(part_path(cache.folder, 1, 2))
    assert cache.missing(checksums=True) == [(1, 2)]


def test_a_short_part_is_found_without_being_read_and_a_changed_one_as_it_is_read(
    cache: TeacherCache,
) -> None:
    short, changed = part_path(cache.folder, 1, 2), part_path(cache.folder, 2, 0)
    cut(short)
    garble(changed)
    assert cache.missing(checksums=False) == [(1, 2)]
    cache.read(2, np.arange(4, IMAGES))
    for view, image, path in ((1, 8, short), (2, 3, changed), (2, 3, changed)):
        with pytest.raises(
            PartError, match=f"{path} is .*; delete it and repeat the command that made"
        ):
            cache.read(view, np.array([image]))


def test_every_changed_byte_is_found(cache: TeacherCache) -> None:
    path = part_path(cache.folder, 0, 0)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(PartError, match=str(path)):
            cache.read(0, np.array([0]))


def test_a_part_is_compared_once_by_all_processes_together(
    cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    checksum = parts._checksum
    monkeypatch.setattr(parts, "_checksum", lambda c: compared.append(1) or checksum(c))
    monkeypatch.setattr(teacher_cache, "MOST_OPEN", 1)
    for _ in range(2):
        cache.read(0, np.arange(IMAGES))
    assert len(compared) == cache.manifest.parts
    reader = get_context("fork").Process(target=cache.read, args=(1, np.arange(IMAGES)))
    reader.start()
    reader.join()
    cache.read(1, np.arange(IMAGES))
    assert len(compared) == cache.manifest.parts


def test_a_part_of_another_cache_is_missing_and_refused(cache: TeacherCache) -> None:
    path = part_path(cache.folder, 0, 1)
    write_part(path, cache.read(0, np.arange(4, 8)), "another")
    assert cache.missing(checksums=True) == [(0, 1)]
    with pytest.raises(ValueError, match="is a part of another cache"):
        TeacherCache.open(cache.folder).read(0, np.array([5]))


def test_a_part_that_stands_for_another_of_other_length_is_missing(cache: TeacherCache) -> None:
    part_path(cache.folder, 0, 0).rename(part_path(cache.folder, 0, 2))
    assert cache.missing(checksums=True) == [(0, 0), (0, 2)]
    with pytest.raises(ValueError, match=r"is missing; delete it and repeat the command that made"):
        cache.read(0, np.array([0]))
    with pytest.raises(ValueError, match="holds other columns"):
        cache.read(0, np.array([9]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 1}, "files of version 1, expected 2"),
        ({"views": "3"}, "not a positive whole number"),
        ({"part_images": 0}, "not a positive whole number"),
        ({"unknown": 1}, "unexpected keyword argument 'unknown'"),
        ({"maps": [{"name": "a"}]}, "missing 3 required"),
        ({"maps": [["a", 1, 1, -1]]}, "must be a mapping"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(MADE_FROM.to_dict() | change))
    with pytest.raises(ValueError, match=f"is damaged: .*{said}"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no cache.json; expected a folder"):
        read_manifest(tmp_path)


def test_caches_of_more_views_are_the_same_and_of_other_crops_are_not() -> None:
    assert Manifest(**vars(MADE_FROM) | {"views": 9}).identity == MADE_FROM.identity
    for change in ({"seed": 1}, {"crop_min": 0.3}, {"grid": 3}, {"weights": "x"}, {"data": "x"}):
        assert Manifest(**vars(MADE_FROM) | change).identity != MADE_FROM.identity
