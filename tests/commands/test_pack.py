"""Shards hold the images of the data, whatever happened on the way."""

import io
import os
import resource
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from archive_files import names, pixels, png
from filelock import FileLock
from forked import signalled
from image_files import class_tree, photo, save, text_named_jpg
from PIL import Image

from mgd_ssl.commands import pack
from mgd_ssl.data import ArraySource, data_digest, make_loader, open_source, packing
from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.packing import Coding, Plan, UnreadableError, encode, write_shard
from mgd_ssl.data.packing_size import size_of_shards

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names that tar and WebDataset take for something else, among others."""
    root = tmp_path / "folder"
    class_tree(root / "train", {"cat": 7, "dog": 6})
    class_tree(root / "val", {"dog": 3})
    save(root / "train" / "cat" / "a.b.png", photo(50))
    save(root / "train" / "cat" / "a.c.png", photo(51))
    save(root / "train" / "cat" / "0.jpg", photo(52))
    save(root / "train" / "dog" / "deep" / "größe 図 é.PNG", photo(53))
    save(root / "train" / "dog" / f"{'long' * 40}.png", photo(54))
    return root


def packed(*words: str) -> int:
    return pack.main([*words, "-j", "2"])


def tars(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.tar"))}


# byte for byte


def test_shards_hold_the_folder_byte_for_byte(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    assert packed(str(folder), "--out", str(out), "--shard-images", "4") == 0
    for split, count in (("train", 5), ("val", 1)):
        mine, theirs = (open_source(path, split, labeled=True) for path in (out, folder))  # type: ignore[arg-type]
        assert len(list((out / split).glob("*.tar"))) == count
        assert data_digest(mine) == data_digest(theirs)
        assert names(mine) == names(theirs) and mine.classes == theirs.classes == ["cat", "dog"]
        assert mine.labels is not None and theirs.labels is not None
        assert mine.labels.tolist() == theirs.labels.tolist()
        assert [mine.encoded(i) for i in range(len(mine))] == [
            theirs.encoded(i) for i in range(len(theirs))
        ]
        loaders = [make_loader(s, 32, 2, train=split == "train") for s in (mine, theirs)]
        for a, b in zip(*loaders, strict=True):
            assert all(map(torch.equal, a[:4], b[:4]))


def test_images_without_labels_are_packed_without(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "data" / f"{i}.png", photo(i))
    assert packed(str(tmp_path / "data"), "--out", str(tmp_path / "out")) == 0
    source = open_source(tmp_path / "out", "train")
    assert source.labels is None and names(source) == [f"{i}.png" for i in range(5)]
    assert data_digest(source) == data_digest(open_source(tmp_path / "data", "train"))
    assert not (tmp_path / "out" / "val").exists()


def test_files_that_are_not_packed_are_counted(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    (folder / "train" / "notes.txt").write_text("mine")
    (folder / "train" / "cat" / "noext").write_bytes(b"")
    (folder / "val" / "dog" / ".hidden.png").write_bytes(b"")
    assert packed(str(folder), "--out", str(tmp_path / "out")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"data: {folder}/train (18 images, 2 classes): 18 for training;" in said
    assert f"skipped in {folder}/train: 1 .txt, 1 without an extension" in said
    assert f"skipped in {folder}/val: 1 hidden" in said


def test_the_embedded_data_is_packed_as_images_without_loss(tmp_path: Path) -> None:
    assert packed("--out", str(tmp_path / "out")) == 0
    for split in ("train", "val"):
        mine, theirs = (open_source(path, split, True) for path in (tmp_path / "out", None))  # type: ignore[arg-type]
        assert mine.classes == theirs.classes and len(mine) == len(theirs)
        assert mine.labels is not None and np.array_equal(mine.labels, theirs.labels)
        for i in range(0, len(mine), 97):
            np.testing.assert_array_equal(mine.read(i), theirs.read(i))


def test_shards_are_packed_again_to_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    for data, out in ((folder, "a"), (tmp_path / "a", "b")):
        words = [str(data), "--out", str(tmp_path / out), "--shard-images", "5"]
        assert packed(*words) == 0
    assert tars(tmp_path / "a") == tars(tmp_path / "b")


def test_webdataset_would_read_each_image_with_its_label(tmp_path: Path, folder: Path) -> None:
    """By WebDataset's rule: a sample is the files that agree up to the first dot of the name."""
    assert packed(str(folder), "--out", str(tmp_path / "out")) == 0
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(tmp_path / "out" / "train" / "000000.tar") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None
            samples.setdefault(key, {})[extension] = file.read()
    source = open_source(folder, "train", labeled=True)
    assert source.labels is not None and len(samples) == len(source)
    for i, (_, sample) in enumerate(sorted(samples.items())):
        assert int(sample["cls"]) == source.labels[i]
        assert next(sample[e] for e in ("png", "jpg") if e in sample) == source.encoded(i)


# smaller images


def test_larger_images_are_resized_and_smaller_ones_stay(tmp_path: Path) -> None:
    data = tmp_path / "data"
    save(data / "large.png", photo(1, 400, 600))
    save(data / "small.png", photo(2, 64, 80))
    image = Image.fromarray(photo(3, 300, 500))
    exif = image.getexif()
    exif[0x112] = 6  # to be turned by a quarter
    image.save(data / "turned.jpg", exif=exif)
    assert packed(str(data), "--out", str(tmp_path / "out"), "--size", "100") == 0
    source = open_source(tmp_path / "out", "train")
    assert names(source) == ["large.png", "small.png", "turned.jpg"]
    large, _, turned = (source.read(i) for i in range(3))
    assert large.size == (150, 100) and turned.size == (100, 167)
    assert source.encoded(1) == (data / "small.png").read_bytes()
    expected = Image.fromarray(photo(1, 400, 600)).resize((150, 100), Image.Resampling.BICUBIC)
    off = np.abs(np.asarray(large).astype(int) - np.asarray(expected).astype(int))
    assert off.mean() < 2
    written = source.encoded(0)
    assert written is not None and Image.open(io.BytesIO(written)).format == "JPEG"


def test_images_that_cannot_be_decoded_keep_their_place(tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "data"
    for i in (0, 2):
        save(data / f"{i}.png", photo(i, 100, 100))
    text_named_jpg(data / "1.jpg")
    assert packed(str(data), "--out", str(tmp_path / "out"), "--size", "50") == 0
    source = open_source(tmp_path / "out", "train")
    assert names(source) == ["0.png", "1.jpg", "2.png"] and source.encoded(1) == b"not an image"
    said = capsys.readouterr().err
    assert f"cannot be decoded, kept as it is: {data / '1.jpg'}" in said
    assert "1 images cannot be decoded" in said


# what it takes


@pytest.mark.parametrize("size", [None, 16])
def test_the_size_that_is_said_is_the_size_that_is_written(
    tmp_path: Path, folder: Path, size: int | None
) -> None:
    source = open_source(folder, "train")
    plan = Plan(source, tmp_path / "out", 4, Coding(size))
    said = size_of_shards(plan)
    written = sum(write_shard(plan, number).size for number in range(len(plan)))
    assert said.known == (size is None)
    assert written <= said.total <= written + 10240 * len(plan)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgd_ssl.runs.pack.free_bytes", lambda _: 10_000)
    assert packed(str(folder), "--out", str(tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert "21 images in 2 shards" in said and "0.01 MB of the disk is free" in said
    assert "expected more. Name a folder on another disk" in said
    assert not (tmp_path / "out").exists()


def test_what_is_whole_stays_on_a_full_disk(tmp_path: Path, capsys: Capture) -> None:
    for i in range(8):
        save(tmp_path / "data" / f"{i}.png", photo(i))
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    save(tmp_path / "data" / "8.png", noise)
    words = [str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--shard-images", "2"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert pack.main([*words, "-j", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert "File too large" in said and "4 of 5 shards" in said and "are whole and stay" in said
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.tar")}
    assert len(before) == 4
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert packed(*words) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert len(open_source(tmp_path / "out", "train")) == 9


# stopped, and going on


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_packing_goes_on_without_loss_or_double_work(
    tmp_path: Path, signum: signal.Signals
) -> None:
    for i in range(60):
        save(tmp_path / "data" / f"{i:02}.png", photo(i, 400, 600))
    words = [str(tmp_path / "data"), "--shard-images", "2", "--size", "300", "-j", "2"]
    out = tmp_path / "out"

    def three_are_whole() -> bool:
        return len(list(out.glob("train/*.tar"))) >= 3

    status, said = signalled(signum, three_are_whole, "pack", [*words, "--out", str(out)])
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.tar")}
    assert 3 <= len(before) < 30, said
    if signum == signal.SIGINT:
        assert status == 130 and "are whole and stay" in said
        assert "interrupted" in said and "Traceback" not in said
        assert not list(out.rglob("*.tmp"))
    assert pack.main([*words, "--out", str(out)]) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert pack.main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert tars(out) == tars(tmp_path / "whole") and not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("damage", ["cut", "swapped", "gone"])
def test_a_shard_that_is_not_what_was_written_is_written_again(
    tmp_path: Path, folder: Path, damage: str
) -> None:
    words = [str(folder), "--out", str(tmp_path / "out"), "--shard-images", "4"]
    assert packed(*words) == 0
    whole = tars(tmp_path / "out")
    first, second = (tmp_path / "out" / "train" / f"00000{i}.tar" for i in (0, 1))
    if damage == "cut":
        first.write_bytes(first.read_bytes()[:3000])
    elif damage == "swapped":
        os.replace(second, first)
    else:
        first.unlink()
    assert packed(*words) == 0
    assert tars(tmp_path / "out") == whole


def test_an_image_that_cannot_be_read_leaves_no_shard(tmp_path: Path) -> None:
    save(tmp_path / "0.png", photo())
    source = FolderSource(tmp_path, ["0.png", "gone.png"])
    plan = Plan(source, tmp_path / "out", 2, Coding())
    with pytest.raises(ValueError, match=r"1 images cannot be read, among them .*gone\.png"):
        size_of_shards(plan)
    with pytest.raises(UnreadableError, match=r"gone\.png cannot be read"):
        write_shard(plan, 0)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_reads_back_otherwise_is_no_shard(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(open_source(folder, "train"), tmp_path / "out", 4, Coding())
    add = packing._add

    def lose_a_bit(tar: tarfile.TarFile, name: str, content: bytes) -> None:
        add(tar, name, content[:-1] + bytes([content[-1] ^ 1]) if "3.png" in name else content)

    monkeypatch.setattr(packing, "_add", lose_a_bit)
    with pytest.raises(OSError, match="reads back otherwise than it was written"):
        write_shard(plan, 0)
    assert list((tmp_path / "out").iterdir()) == []


def test_two_commands_do_not_pack_into_one_folder(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert packed(str(folder), "--out", str(tmp_path / "out")) == 1
    assert "another command packs into" in capsys.readouterr().err
    assert packed(str(folder), "--out", str(tmp_path / "out")) == 0
    assert not (tmp_path / "out" / ".lock").exists()


# what is refused


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert packed(str(folder), "--out", str(out)) == 0
    for words in (["--size", "20"], ["--shard-images", "3"]):
        assert packed(str(folder), "--out", str(out), *words) == 1
        assert "holds shards of other images, or made with other options" in capsys.readouterr().err
    save(folder / "train" / "cat" / "new.png", photo(99))
    assert packed(str(folder), "--out", str(out)) == 1
    assert "holds shards of other images" in capsys.readouterr().err
    assert packed(str(folder), "--out", str(folder.parent)) == 1
    assert "is not empty; expected a new folder" in capsys.readouterr().err
    assert packed(str(folder), "--out", str(folder / "shards")) == 1
    assert "which is in DATA; expected another folder" in capsys.readouterr().err


def test_labels_of_val_alone_are_refused_before_anything_is_written(
    tmp_path: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(folder / "train" / "loose.png", photo(60))
    monkeypatch.setattr("mgd_ssl.runs.pack.size_of_shards", None)  # no work has begun
    assert packed(str(folder), "--out", str(tmp_path / "out")) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"data: {folder}/val has labels, {folder}/train has none; expected labels in" in said
    assert "loose.png is in no class folder" in said and "Sort the images" in said
    assert not (tmp_path / "out").exists()


def test_classes_that_differ_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for part, classes in {"train": ["cat", "dog"], "val": ["dog", "cat"]}.items():
        label = datasets.ClassLabel(names=classes)
        features = datasets.Features({"label": label, "image": datasets.Image()})
        rows = {"label": [0, 1], "image": [{"bytes": png(photo(i)), "path": None} for i in (0, 1)]}
        data = datasets.Dataset.from_dict(rows, features=features)
        data.to_parquet(tmp_path / "data" / f"{part}.parquet")
    assert packed(str(tmp_path / "data"), "--out", str(tmp_path / "out")) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "data: class 0 is dog in " in said and ", cat in " in said
    assert "expected the same classes in both" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "0"], "size: got 0, expected 1 or more"),
        (["--quality", "101", "--size", "9"], "quality: got 101, expected 1 to 100"),
        (["--quality", "80"], "has no effect without --size"),
    ],
)
def test_bad_options_are_one_message(words: list[str], message: str, capsys: Capture) -> None:
    assert pack.main(words) == 1
    assert message in capsys.readouterr().err


def test_pixels_of_packed_shards_are_those_of_the_files(tmp_path: Path, folder: Path) -> None:
    assert packed(str(folder), "--out", str(tmp_path / "out"), "--size", "1000") == 0
    mine, theirs = (open_source(path, "val") for path in (tmp_path / "out", folder))
    for a, b in zip(pixels(mine), pixels(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_images_in_memory_are_made_smaller_too() -> None:
    source = ArraySource(np.stack([photo(0, 40, 40), photo(1, 40, 40)]))
    data, extension, decoded = encode(source, 0, Coding(16))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, extension, decoded) == ("JPEG", (16, 16), "jpg", True)
    data, extension, _ = encode(source, 1, Coding(64))  # small enough
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, extension) == ("PNG", (40, 40), "png")
