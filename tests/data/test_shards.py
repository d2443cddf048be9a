"""Tar shards are read one image at a time, and a shard that is not what it was is noticed."""

import json
import logging
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archive_files import link, names, pixels, png, write_tar
from image_files import class_tree, photo, save, truncate

from mgd_ssl.data import ImageSource, data_digest, make_loader, open_source, subset
from mgd_ssl.data.archives import indexing
from mgd_ssl.data.archives.tar_entries import read_tar

PHOTOS = [png(photo(i)) for i in range(8)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def sample(
    number: int, label: str | None = None, said: dict[str, Any] | None = None
) -> list[tuple[str, bytes]]:
    """An image and what stands beside it."""
    members = [(f"{number:06}.png", PHOTOS[number % len(PHOTOS)])]
    members += [] if label is None else [(f"{number:06}.cls", label.encode())]
    return members + ([(f"{number:06}.json", json.dumps(said).encode())] if said else [])


def shard(path: Path, *numbers: int, labels: str = "01201201") -> Path:
    return write_tar(path, [m for i in numbers for m in sample(i, labels[i % len(labels)])])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    shard(tmp_path / "shards" / "000000.tar", 0, 1, 2)
    shard(tmp_path / "shards" / "000001.tar", 3, 4)
    return tmp_path / "shards"


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The archives that are listed from now on."""
    from mgd_ssl.data.readers import shards

    listed: list[str] = []
    read = shards.read_tar

    def count(path: Path) -> Any:
        listed.append(path.name)
        return read(path)

    monkeypatch.setattr(shards, "read_tar", count)
    return listed


# images and labels


def test_images_of_all_shards_come_in_the_order_of_the_shards(shards: Path) -> None:
    source = open_source(shards, "train", labeled=True)
    assert names(source) == [f"{i:06}.png" for i in range(5)]
    assert source.labels is not None and source.labels.tolist() == [0, 1, 2, 0, 1]
    for i, found in enumerate(pixels(source)):
        np.testing.assert_array_equal(found, photo(i))
    assert source.encoded(3) == PHOTOS[3] and source.stored(3)[1] == len(PHOTOS[3])
    assert source.describe(3) == f"{shards}/000001.tar[000003.png]"
    with pytest.raises(ValueError, match="no validation images; expected a part called val"):
        open_source(shards, "val")


def test_batches_are_those_of_the_folder_with_the_same_files(tmp_path: Path) -> None:
    folder = class_tree(tmp_path / "folder", {"cat": 3, "dog": 4})
    files = sorted(folder.rglob("*.png"))
    members = [
        member
        for i, file in enumerate(files)
        for member in (
            (f"{i:09}.png", file.read_bytes()),
            (f"{i:09}.cls", str(int(file.parent.name == "dog")).encode()),
            (f"{i:09}.json", json.dumps({"filename": str(file.relative_to(folder))}).encode()),
        )
    ]
    write_tar(tmp_path / "packed" / "0.tar", members[:9])
    write_tar(tmp_path / "packed" / "1.tar", members[9:])
    (tmp_path / "packed" / "classes.txt").write_text("cat\ndog\n")
    sources = [open_source(tmp_path / name, "train", True) for name in ("folder", "packed")]
    assert sources[0].classes == sources[1].classes == ["cat", "dog"]
    assert data_digest(sources[0]) == data_digest(sources[1])
    assert data_digest(subset(sources[0], 3)) == data_digest(subset(sources[1], 3))
    for workers in (0, 2):
        loaders = [make_loader(s, 32, 3, train=True, workers=workers) for s in sources]
        for mine, theirs in zip(*loaders, strict=True):
            assert all(map(torch.equal, mine[:4], theirs[:4]))


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["1", "0", "1"], None, [1, 0, 1]),
        (["7", "3", "7"], None, [7, 3, 7]),
        (["10", "9", "10"], None, [10, 9, 10]),
        (["dog", "cat", "dog"], ["cat", "dog"], [1, 0, 1]),
    ],
)
@pytest.mark.parametrize("beside", ["cls", "json"])
def test_labels_are_numbers_as_they_are_or_sorted_names(
    tmp_path: Path,
    labels: list[str],
    classes: list[str] | None,
    expected: list[int],
    beside: str,
) -> None:
    for i, label in enumerate(labels):
        said = {"label": int(label) if label.isdecimal() else label}
        members = sample(i, label) if beside == "cls" else sample(i, said=said)
        write_tar(tmp_path / f"{i}.tar", members)
    source = open_source(tmp_path, "train", labeled=True)
    assert source.labels is not None and source.labels.tolist() == expected
    assert source.classes == classes


def test_labels_that_stand_beside_the_images_are_part_of_the_digest(tmp_path: Path) -> None:
    shard(tmp_path / "a" / "0.tar", 0, 1, 2, labels="010")
    shard(tmp_path / "b" / "0.tar", 0, 1, 2, labels="011")
    digests = {data_digest(open_source(tmp_path / name, "train")) for name in "ab"}
    assert len(digests) == 2


def test_archives_of_a_folder_tree_have_its_folders_for_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "cats.tar", [("./cat/b.x.png", PHOTOS[1]), ("./cat/a.png", PHOTOS[0])])
    write_tar(tmp_path / "dogs.tar", [("dog/a.jpg.png", PHOTOS[2])])
    source = open_source(tmp_path, "train", labeled=True)
    assert names(source) == ["cat/a.png", "cat/b.x.png", "dog/a.jpg.png"]
    assert source.classes == ["cat", "dog"]
    assert source.labels is not None and source.labels.tolist() == [0, 0, 1]


def test_shards_without_labels_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """With a description of the shard among its images too."""
    stray = [("000000_stats.json", b'{"count": 2}')]
    write_tar(tmp_path / "0.tar", [*sample(1), *sample(0)])
    write_tar(tmp_path / "1.tar", [*stray, *sample(3), *sample(2)])
    source = open_source(tmp_path, "train")
    assert names(source) == [f"{i:06}.png" for i in range(4)]
    assert source.labels is None and source.skipped == "1 .json"
    for i, found in enumerate(pixels(source)):
        np.testing.assert_array_equal(found, photo(i))


def test_more_labels_than_names_of_classes_are_refused(shards: Path) -> None:
    (shards / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=r"labels up to 2, and 2 names in classes\.txt"):
        open_source(shards, "train", labeled=True)
    (shards / "classes.txt").write_text("cat\ndog\nhen\n")
    assert open_source(shards, "train").classes == ["cat", "dog", "hen"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", None, "1"], "1 of 3 images have no label; expected one for each, or none"),
        (["0", "dog", "1"], "labels are numbers and names, such as 0 and dog; expected one"),
        (["0", "1", "9" * 20], "labels are numbers and names, such as 0 and 9+; expected one"),
        (["0", "1", "9" * 5000], "labels are numbers and names, such as 0 and 9+; expected one"),
        (["dog", "dog", "dog"], "no labels: dog is the only class; expected two or more"),
        ([None, None, "-1"], "no labels: no class folders; expected two or more"),
    ],
)
def test_mixed_labels_are_refused_where_labels_are_wanted(
    tmp_path: Path, labels: list[str | None], message: str
) -> None:
    write_tar(tmp_path / "0.tar", [m for i, label in enumerate(labels) for m in sample(i, label)])
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path, "train", labeled=True)
    source = open_source(tmp_path, "train")
    assert source.labels is None and len(source) == 3


# splits


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/0.tar", "val/0.tar"),
        ("train-000000.tar", "val-000000.tar"),
        ("imagenet-train-0000.tar", "imagenet-validation-00.tar"),
        ("train-00000-of-00001.tar", "test-00000-of-00001.tar"),
        (
            "train-00000-of-00001-b42a775f407cee45.tar",
            "validation-00000-of-00001-0e9f3c5d7a1b2c4d.tar",
        ),
    ],
)
def test_parts_are_folders_of_shards_or_told_by_the_names(
    tmp_path: Path, train: str, val: str
) -> None:
    write_tar(tmp_path / train, [*sample(0, "cat"), *sample(1, "dog"), *sample(2, "hen")])
    write_tar(tmp_path / val, [*sample(3, "hen")])
    assert len(open_source(tmp_path, "train", labeled=True)) == 3
    source = open_source(tmp_path, "val", labeled=True)
    assert source.classes == ["cat", "dog", "hen"]
    assert source.labels is not None and source.labels.tolist() == [2]


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "0.tar", [*sample(0, "cat"), *sample(1, "dog")])
    write_tar(tmp_path / "val" / "0.tar", [*sample(3, "hen")])
    with pytest.raises(ValueError, match="classes that the training images have not: hen"):
        open_source(tmp_path, "val", labeled=True)
    assert open_source(tmp_path, "val").labels is None


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (["dog", "cat"], ["0", "1"], "labels are numbers, such as 0, and those of .* such as cat"),
        (["1", "0"], ["dog", "cat"], "labels are class names, such as cat, and .* such as 1"),
    ],
)
def test_names_in_one_part_and_numbers_in_the_other_are_refused(
    tmp_path: Path, train: list[str], val: list[str], message: str
) -> None:
    for name, labels in (("train", train), ("val", val)):
        members = [member for i, label in enumerate(labels) for member in sample(i, label)]
        write_tar(tmp_path / name / "0.tar", members)
    with pytest.raises(ValueError, match=f"{message}; expected the same kind in both"):
        open_source(tmp_path, "val", labeled=True)
    assert open_source(tmp_path, "val").labels is None


def test_names_that_leave_the_parts_open_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", 0)
    shard(tmp_path / "training-0.tar", 1)
    with pytest.raises(ValueError, match=r"train, training are all called like its train part"):
        open_source(tmp_path, "train")
    with pytest.raises(ValueError, match="has no folders of images"):
        open_source(tmp_path, "train", train_folder="a")
    (tmp_path / "training-0.tar").rename(tmp_path / "extra-0.tar")
    assert open_source(tmp_path, "train").unused == ("1 files extra*",)


def test_archives_beside_images_are_no_data(tmp_path: Path) -> None:
    class_tree(tmp_path, {"a": 2, "b": 1})
    shard(tmp_path / "all.tar", 0, 1)
    source = open_source(tmp_path, "train")
    assert len(source) == 3 and source.skipped == "1 .tar"


# what an archive says is data


def test_members_that_lead_out_links_and_other_files_are_skipped_and_counted(
    tmp_path: Path,
) -> None:
    secret = save(tmp_path / "secret.png", photo(9))
    members = [
        *sample(0, "0"),
        (str(secret), PHOTOS[1]),
        ("../secret.png", PHOTOS[1]),
        ("a/../../secret.png", PHOTOS[1]),
        link("1.png", str(secret)),
        link("2.png", "000000.png", tarfile.LNKTYPE),
        link("3.png", "", tarfile.FIFOTYPE),
        link("folder", "", tarfile.DIRTYPE),
        ("._4.png", b"apple"),
        ("__MACOSX/5.png", b"apple"),
        ("000000.txt", b"a caption"),
        ("000007.cls", b"1"),
        ("000000.seg.png", PHOTOS[3]),
    ]
    write_tar(tmp_path / "shards" / "0.tar", members)
    source = open_source(tmp_path / "shards", "train")
    assert names(source) == ["000000.png"]
    said = source.skipped
    for count in (
        "3 names that lead out of the archive",
        "2 links in the archive",
        "1 members that are no plain files",
        "1 hidden",
        "1 __MACOSX/",
        "1 .txt",
        "1 samples without an image",
        "1 further images of a sample",
    ):
        assert count in said, (count, said)
    assert sum(int(part.split()[0]) for part in said.split(", ")) == 11


def test_a_file_name_that_leads_out_is_not_taken_from_a_description(tmp_path: Path) -> None:
    said = [{"filename": "../../etc/x.png"}, {"filename": "/etc/x.png"}, {"filename": "a/0.png"}]
    write_tar(tmp_path / "0.tar", [m for i, s in enumerate(said) for m in sample(i, said=s)])
    assert names(open_source(tmp_path, "train")) == ["000000.png", "000001.png", "a/0.png"]


def test_a_description_that_is_nested_too_deeply_is_none_and_is_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [*sample(0), ("000000.json", b"[" * 60_000)])
    source = open_source(tmp_path, "train")
    assert names(source) == ["000000.png"]
    assert source.skipped == "1 .json without a description"


def test_a_sample_of_two_images_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [*sample(0, "1"), ("000000.jpg", PHOTOS[1])])
    with pytest.raises(ValueError, match="sample 000000 has 2 images, jpg, png; expected one a"):
        open_source(tmp_path, "train")


def test_undecodable_images_are_replaced_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [("000001.png", b"no image"), ("000002.png", b"")]
    write_tar(tmp_path / "0.tar", [*sample(0), *bad, *sample(3)])
    loader = make_loader(open_source(tmp_path, "train"), 32, 4, train=False)
    batch = next(iter(loader))
    assert batch.failed.tolist() == [-1, 1, 2, -1] and batch.indices.tolist() == [0, 3, 3, 3]
    assert "0.tar[000001.png] (no image of a known format)" in caplog.text
    assert "0.tar[000002.png] (empty file)" in caplog.text


# truncated shards


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_truncated_shard_is_refused(shards: Path, share: float) -> None:
    truncate(shards / "000001.tar", share)
    with pytest.raises(ValueError, match=r"000001\.tar: truncated or damaged .*Fetch or pack it"):
        open_source(shards, "train")


def test_every_cut_of_a_shard_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("0.png", b"x" * 700), ("0.cls", b"1")])
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    whole = 512 * (-(-end // 512) + 2)  # two blocks of zeros end an archive
    for length in range(0, whole, 64):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"0\.tar: truncated"):
            read_tar(path)
    path.write_bytes(data[:whole])
    assert read_tar(path).names == ["0.png"]


def test_a_damaged_header_is_no_end(shards: Path) -> None:
    path = shards / "000000.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"000001.png")
    data[at + 140] ^= 1  # in the size
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"000000\.tar: truncated or damaged"):
        open_source(shards, "train")


def test_several_truncated_shards_are_counted(tmp_path: Path) -> None:
    for i in range(5):
        truncate(shard(tmp_path / f"{i}.tar", i), 0.5)
    with pytest.raises(ValueError, match=r"0\.tar.*1\.tar.*2\.tar.* \(5 of 5 cannot be used\)"):
        open_source(tmp_path, "train")


def test_a_compressed_shard_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w:gz") as tar:
        tar.add(save(tmp_path / ".x" / "0.png", photo()), "0.png")
    with pytest.raises(ValueError, match=r"compressed archive.*Unpack it: gunzip"):
        open_source(tmp_path, "train")


@pytest.mark.parametrize("opened", [False, True])
def test_a_shard_that_changes_while_it_is_read_gives_no_wrong_images(
    shards: Path, opened: bool
) -> None:
    source = open_source(shards, "train")
    if opened:
        source.read(4)
    shard(shards / "000001.tar", 6, 7, 5)
    with pytest.raises(ValueError, match=r"000001\.tar has changed since its index was made"):
        source.read(4)


# the index


def test_tables_beside_shards_are_no_second_kind_of_data(shards: Path) -> None:
    """Tools that download images write a Parquet file of captions beside each shard."""
    for number in (0, 1):
        (shards / f"{number:06}.parquet").write_bytes(b"PAR1")
        (shards / f"{number:06}_stats.json").write_text("{}")
    assert len(open_source(shards, "train")) == 5


def test_the_index_is_made_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = reads(monkeypatch)
    before = open_source(shards, "train")
    assert sorted(listed) == ["000000.tar", "000001.tar"]
    after = open_source(shards, "train")
    assert len(listed) == 2 and data_digest(before) == data_digest(after)


def test_shards_that_are_new_gone_renamed_or_changed_bring_the_index_up_to_date(
    shards: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_source(shards, "train")
    listed = reads(monkeypatch)
    shard(shards / "000002.tar", 5, 6)
    assert len(open_source(shards, "train")) == 7
    assert listed == ["000002.tar"]
    assert "older than its archives: 1 are new, such as 000002.tar" in caplog.text
    (shards / "000000.tar").rename(shards / "000009.tar")
    source = open_source(shards, "train")
    assert "1 are new, such as 000009.tar; 1 are gone, such as 000000.tar" in caplog.text
    assert names(source) == [f"{i:06}.png" for i in (3, 4, 5, 6, 0, 1, 2)]
    assert source.labels is not None and source.labels.tolist() == [0, 1, 2, 0, 0, 1, 2]
    shard(shards / "000001.tar", 7)
    source = open_source(shards, "train")
    assert "1 have changed, such as 000001.tar" in caplog.text
    assert listed[1:] == ["000009.tar", "000001.tar"]
    for found, number in zip(pixels(source), (7, 5, 6, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(found, photo(number))


def test_an_index_brought_up_to_date_is_the_one_that_is_made_anew(
    tmp_path: Path, shards: Path, cache: Path
) -> None:
    """Other words for labels and other folders come in, and some go."""
    for i, (label, name) in enumerate((("7", "x/a.png"), ("dog", "y/b.png"), ("5", "z/c.png"))):
        write_tar(shards / "000003.tar", sample(i, label, {"filename": name}))
        old = open_source(shards, "train")
        for file in shards.glob(".*"):
            file.unlink()
        new = open_source(shards, "train")
        assert names(old) == names(new) and names(old)[-1] == name
        tables = [source.index.table for source in (old, new)]  # type: ignore[attr-defined]
        assert tables[0].labels == tables[1].labels and tables[0].folders == tables[1].folders
        for column, values in tables[0].columns.items():
            np.testing.assert_array_equal(values, tables[1].columns[column])


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "version"])
def test_a_damaged_index_is_made_again(
    shards: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = data_digest(open_source(shards, "train"))
    (index,) = shards.glob(".*.mgd-index")
    data = index.read_bytes()
    content = {
        "cut": data[:-8],
        "other": data[:40] + bytes([data[40] ^ 1]) + data[41:],
        "empty": b"",
        "version": b"another program's",
    }
    index.write_bytes(content[damage])
    assert data_digest(open_source(shards, "train")) == before
    assert "cannot be used, and is made again" in caplog.text
    assert index.read_bytes() == data


def test_the_index_of_a_folder_that_cannot_be_written_is_in_the_cache(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = indexing.write_arrays

    def refuse(path: Path, *content: Any) -> None:
        if path.parent == shards:
            raise indexing.WriteError(f"{path}: read-only")
        write(path, *content)

    monkeypatch.setattr(indexing, "write_arrays", refuse)
    listed = reads(monkeypatch)
    for _ in range(2):
        assert len(open_source(shards, "train")) == 5
    assert len(listed) == 2 and len(list(cache.rglob("*.mgd-index"))) == 1
    monkeypatch.setattr(indexing, "write_arrays", lambda path, *_: refuse(shards / "x"))
    shard(shards / "000002.tar", 5)
    source = open_source(shards, "train")
    assert len(source) == 6 and "the index cannot be kept" in caplog.text
    assert names(pickle.loads(pickle.dumps(source))) == names(source)


def test_a_source_is_sent_to_a_worker_as_the_path_of_its_index(shards: Path) -> None:
    source = open_source(shards, "train", labeled=True)
    sent = pickle.dumps(source)
    assert len(sent) < 3000 and PHOTOS[0][:20] not in sent
    received = pickle.loads(sent)
    assert names(received) == names(source)
    assert received.labels is received.index.table.columns["label"]
    np.testing.assert_array_equal(received.labels, source.labels)
    shard(shards / "000002.tar", 5)
    open_source(shards, "train")
    with pytest.raises(ValueError, match="written anew since the data was opened"):
        pickle.loads(sent)


def _open(path: str) -> str:
    return data_digest(open_source(path, "train"))


def test_processes_that_open_the_same_shards_at_once_make_one_index(shards: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        digests = set(pool.map(_open, [str(shards)] * 8))
    assert len(digests) == 1
    left = sorted(name for name in os.listdir(shards) if name.startswith("."))
    assert left == [".shards.mgd-index"]


def test_a_shard_without_images_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.txt", b"x"), ("b.mp4", b"x")])
    with pytest.raises(ValueError, match=r"1 tar archives without an image.*1 \.mp4, 1 \.txt"):
        open_source(tmp_path, "train")


def test_more_shards_than_files_that_may_be_open_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    for i in range(300):
        write_tar(tmp_path / f"{i:03}.tar", [("0.png", PHOTOS[0])])
    source = open_source(tmp_path, "train")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        assert all(source.encoded(i) == PHOTOS[0] for i in range(300))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_annotations_say_how_many_classes_there_are(shards: Path) -> None:
    source: ImageSource = open_source(shards, "train", labeled=True)
    assert source.annotations == "3 classes" and not source.in_memory


def test_logging_says_that_archives_are_read_once(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mgd_ssl"):
        open_source(shards, "train")
    assert "2 archives are read once, for the index" in caplog.text


def test_parts_whose_names_differ_in_more_than_a_number_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "train-first.tar", 0)
    shard(tmp_path / "val-second.tar", 1)
    with pytest.raises(ValueError, match=r"train and val files .* expected train-NUMBER and val-N"):
        open_source(tmp_path, "train")
