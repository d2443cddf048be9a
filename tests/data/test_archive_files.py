"""One zip or tar archive of a folder tree is read like the folder."""

import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from archive_files import names, png, write_tar
from image_files import class_tree, photo, save

from mgd_ssl.data import NoValidationError, data_digest, make_loader, open_source

PHOTO = png(photo())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def zipped(path: Path, folder: Path, method: int = zipfile.ZIP_STORED, below: str = "") -> Path:
    """A zip archive of a folder; files that do not sort by name come first."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, below + str(file.relative_to(folder)))
    return path


def tarred(path: Path, folder: Path, below: str = "") -> Path:
    files = sorted((f for f in folder.rglob("*") if f.is_file()), reverse=True)
    return write_tar(path, [(below + str(f.relative_to(folder)), f.read_bytes()) for f in files])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    class_tree(root / "train", {"cat": 3, "dog": 4})
    class_tree(root / "val", {"dog": 2})
    save(root / "train" / "cat" / "deep" / "größe 図.a.PNG", photo(50))
    return root


def test_a_zip_archive_of_windows_tools_is_the_folder_too(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (file for file in folder.rglob("*") if file.is_file()):
            archive.write(file, str(file.relative_to(folder)).replace("/", "\\"))
    for split in ("train", "val"):
        mine, theirs = (open_source(p, split, labeled=True) for p in (path, folder))  # type: ignore[arg-type]
        assert names(mine) == names(theirs) and data_digest(mine) == data_digest(theirs)


@pytest.mark.parametrize("below", ["", "wrapped/in/"])
@pytest.mark.parametrize("kind", ["stored", "deflated", "tar"])
def test_an_archive_is_the_folder_that_it_was_made_from(
    tmp_path: Path, folder: Path, kind: str, below: str
) -> None:
    if kind == "tar":
        path = tarred(tmp_path / "a.tar", folder, below)
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        path = zipped(tmp_path / "a.zip", folder, method, below)
    for split in ("train", "val"):
        mine, theirs = (open_source(p, split, labeled=True) for p in (path, folder))  # type: ignore[arg-type]
        assert names(mine) == names(theirs) and data_digest(mine) == data_digest(theirs)
        assert mine.classes == theirs.classes == ["cat", "dog"]
        assert mine.labels is not None and theirs.labels is not None
        assert mine.labels.tolist() == theirs.labels.tolist()
        for workers in (0, 2):
            loaders = [
                make_loader(s, 32, 2, train=split == "train", workers=workers)
                for s in (mine, theirs)
            ]
            for a, b in zip(*loaders, strict=True):
                assert all(map(torch.equal, a[:4], b[:4]))
    source = open_source(path, "train")
    assert source.describe(0) == f"{path}[{below}train/cat/0.png]"


def test_parts_are_named_or_told_by_their_names(tmp_path: Path, folder: Path) -> None:
    class_tree(folder / "more", {"cat": 1, "dog": 1})
    save(folder / "loose.png", photo())
    path = zipped(tmp_path / "a.zip", folder)
    source = open_source(path, "train")
    assert len(source) == 8 and source.unused == ("more/", "1 images outside folders")
    assert len(open_source(path, "train", train_folder="more")) == 2
    assert len(open_source(path, "train", train_folder=".")) == 13
    assert open_source(path, "train", train_folder=".").labels is None
    with pytest.raises(ValueError, match=r"got nothing, which is no folder in .* of more, train"):
        open_source(path, "train", train_folder="nothing")
    class_tree(folder / "training", {"cat": 1})
    path = zipped(tmp_path / "b.zip", folder)
    with pytest.raises(ValueError, match=r"train, training are all called .*--train-folder NAME"):
        open_source(path, "train")


def test_an_archive_without_parts_is_training_images(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", class_tree(tmp_path / "data", {"cat": 2, "dog": 1}))
    assert open_source(path, "train", labeled=True).classes == ["cat", "dog"]
    with pytest.raises(ValueError, match="no validation images"):
        open_source(path, "val")
    path = zipped(tmp_path / "b.zip", class_tree(tmp_path / "other", {"cat": 2}))
    with pytest.raises(ValueError, match=r"no labels: .* expected two or more class folders"):
        open_source(path, "train", labeled=True)


def test_one_shard_is_an_archive_whose_labels_stand_beside_the_images(tmp_path: Path) -> None:
    members = [(f"{i}.{e}", c) for i in (1, 0) for e, c in (("png", PHOTO), ("cls", b"%d" % i))]
    source = open_source(write_tar(tmp_path / "a.tar", members), "train", labeled=True)
    assert names(source) == ["1.png", "0.png"]
    assert source.labels is not None and source.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("strays", "skipped"),
    [
        ({"info.json": b"{}"}, "1 .json"),
        ({"cat/notes.json": b"[]", "a.json": b"", "b.cls": b"1"}, "2 .json, 1 .cls"),
    ],
)
def test_a_description_of_no_image_leaves_a_tar_archive_a_folder_tree(
    tmp_path: Path, strays: dict[str, bytes], skipped: str
) -> None:
    folder = class_tree(tmp_path / "data", {"cat": 3, "dog": 2})
    save(folder / "cat" / "0.jpg", photo(9))  # beside 0.png, which a shard would not allow
    for name, content in strays.items():
        (folder / name).write_bytes(content)
    mine = open_source(tarred(tmp_path / "a.tar", folder), "train", labeled=True)
    theirs = open_source(folder, "train", labeled=True)
    assert names(mine) == names(theirs) and data_digest(mine) == data_digest(theirs)
    assert mine.classes == theirs.classes and mine.skipped == skipped


def test_numbers_beside_train_images_and_class_folders_of_val_are_refused(tmp_path: Path) -> None:
    members = [
        (f"train/{i}.{e}", c) for i in (0, 1) for e, c in (("png", PHOTO), ("cls", b"%d" % i))
    ]
    members += [("val/0/0.png", PHOTO), ("val/1/0.png", PHOTO)]
    path = write_tar(tmp_path / "a.tar", members)
    said = r"a\.tar\[val/\]: labels are class names, such as 0, .* numbers, such as 0; expected the"
    with pytest.raises(ValueError, match=said):
        open_source(path, "val", labeled=True)


def test_what_a_zip_archive_says_is_not_followed(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret.png", photo(9))
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cat/0.png", "/etc/1.png", "../secret.png", "a/../../secret.png"):
            archive.writestr(name, PHOTO)
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(secret))
        archive.writestr("__MACOSX/cat/._0.png", b"apple")
        archive.writestr("notes.txt", b"text")
        archive.writestr("packed.png", PHOTO, zipfile.ZIP_BZIP2)
    source = open_source(path, "train")
    assert names(source) == ["0.png"]
    assert source.encoded(0) == PHOTO
    for count in (
        "3 names that lead out of the archive",
        "1 links in the archive",
        "1 __MACOSX/",
        "1 .txt",
        "1 images compressed otherwise than by deflate",
    ):
        assert count in source.skipped


def test_a_truncated_or_foreign_archive_is_refused(tmp_path: Path, folder: Path) -> None:
    path = zipped(tmp_path / "a.zip", folder)
    data = path.read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 30):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"a\.zip: truncated or damaged .*Fetch it again"):
            open_source(path, "train")
    tar = tarred(tmp_path / "a.tar", folder)
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"a\.tar: truncated or damaged"):
        open_source(tar, "train")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"archive without images.*1 \.txt"):
        open_source(zipped(tmp_path / "notes.zip", tmp_path / "notes"), "train")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_image_in_a_zip_archive_is_replaced_and_named(
    tmp_path: Path, method: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = class_tree(tmp_path / "data", {"a": 3})
    path = zipped(tmp_path / "a.zip", folder, method)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("a/1.png").header_offset
    data[place + 200] ^= 255
    path.write_bytes(data)
    batch = next(iter(make_loader(open_source(path, "train"), 32, 3, train=False)))
    assert batch.failed.tolist() == [-1, 1, -1]
    assert "a.zip[a/1.png] (" in caplog.text


@pytest.mark.parametrize("size", [100, 0])
def test_a_size_that_an_archive_says_of_itself_is_not_believed(tmp_path: Path, size: int) -> None:
    """A megabyte of zeros packs into a kilobyte, and says that it is a hundred bytes, or none."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(2**20))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 2**20), struct.pack("<I", size)))
    source = open_source(path, "train")
    assert source.stored(0)[1] == size
    tracemalloc.start()
    with pytest.raises(ValueError, match="its checksum differs"):
        source.encoded(0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**18  # it is not unpacked


def test_an_archive_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", class_tree(tmp_path / "one", {"a": 3}))
    assert len(open_source(path, "train")) == 3
    zipped(path, class_tree(tmp_path / "two", {"b": 5}))
    source = open_source(path, "train")
    np.testing.assert_array_equal(source.read(4), photo(4))
    assert len(source) == 5


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_parts_of_an_archive_have_no_image_in_common(
    tmp_path: Path, folder: Path, kind: str
) -> None:
    path = (zipped if kind == "zip" else tarred)(tmp_path / f"a.{kind}", folder)
    for train in (".", "val"):
        with pytest.raises(NoValidationError):
            open_source(path, "val", train_folder=train)
        with pytest.raises(ValueError, match="images in common"):
            open_source(path, "val", train_folder=train, val_folder="val")
    assert len(open_source(path, "val", train_folder="val", val_folder="train")) == 8


def test_names_that_differ_in_the_case_of_the_extension_are_two_images(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [("a/x.PNG", PHOTO), ("a/x.png", PHOTO), ("b/x.png", PHOTO)]
    )
    assert names(open_source(path, "train")) == ["a/x.PNG", "a/x.png", "b/x.png"]
    path = write_tar(tmp_path / "b.tar", [("a/x.png", PHOTO), ("a/x.png", PHOTO)])
    with pytest.raises(ValueError, match=r"two images a/x\.png; expected one"):
        open_source(path, "train")
