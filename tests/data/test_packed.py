"""Data sets that keep many images in one file."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from image_files import idx_folder, truncate, write_idx

from mgd_ssl.data import open_source

# IDX files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("where", ["", "raw", "FashionMNIST/raw"])
def test_idx_files_are_found_plain_and_compressed(tmp_path, suffix, where):
    idx_folder(tmp_path / where, suffix)
    train, val = (open_source(tmp_path, split, labeled=True) for split in ("train", "val"))
    assert (len(train), len(val)) == (12, 5) and train.in_memory
    assert val.labels.tolist() == [0, 1, 2, 0, 1]
    expected = np.random.default_rng(0).integers(0, 256, (12, 6, 6))
    np.testing.assert_array_equal(np.asarray(train.read(7))[..., 2], expected[7])
    assert train.describe(7).endswith(f"train-images-idx3-ubyte{suffix}[7]")


def test_idx_without_labels_serves_where_none_are_wanted(tmp_path):
    (idx_folder(tmp_path) / "train-labels-idx1-ubyte.gz").unlink()
    assert open_source(tmp_path, "train").labels is None
    with pytest.raises(ValueError, match="12 images without labels"):
        open_source(tmp_path, "train", labeled=True)


def test_idx_without_validation_images_is_refused(tmp_path):
    (idx_folder(tmp_path) / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="no images of split val; expected t10k-images-idx3-ubyte"):
        open_source(tmp_path, "val")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("share", [0.02, 0.7])
def test_truncated_idx_is_refused(tmp_path, suffix, share):
    idx_folder(tmp_path, suffix)
    truncate(tmp_path / f"train-images-idx3-ubyte{suffix}", share)
    with pytest.raises(ValueError, match=r"train-images.*expected .*Fetch the file again"):
        open_source(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train-images-idx3-ubyte.gz", np.zeros((12, 6))),
        ("train-images-idx3-ubyte.gz", np.zeros((0, 6, 6))),
        ("train-labels-idx1-ubyte.gz", np.zeros((12, 1))),
    ],
)
def test_idx_files_of_another_shape_are_refused(tmp_path, name, array):
    write_idx(idx_folder(tmp_path) / name, array)
    with pytest.raises(ValueError, match=rf"{name}: .*for shape .*expected type 8"):
        open_source(tmp_path, "train")


def test_idx_values_of_more_than_a_byte_are_refused(tmp_path):
    file = idx_folder(tmp_path, "") / "train-images-idx3-ubyte"
    data = file.read_bytes()
    file.write_bytes(data[:2] + b"\x0d" + data[3:])  # float32
    with pytest.raises(ValueError, match="IDX type 13"):
        open_source(tmp_path, "train")


def test_idx_labels_of_another_number_are_refused(tmp_path):
    write_idx(idx_folder(tmp_path) / "train-labels-idx1-ubyte.gz", np.zeros(11))
    with pytest.raises(ValueError, match="11 labels for 12 images"):
        open_source(tmp_path, "train")


def test_two_data_sets_in_one_folder_are_refused(tmp_path):
    idx_folder(tmp_path / "MNIST" / "raw")
    idx_folder(tmp_path / "FashionMNIST" / "raw")
    with pytest.raises(ValueError, match=r"several data sets, .*Name the folder"):
        open_source(tmp_path, "train")
    assert len(open_source(tmp_path / "MNIST", "train")) == 12


# CIFAR


def write_cifar(folder: Path, monkeypatch, kind: str) -> np.ndarray:
    """The archive's files with two images each, and their checksums told to torchvision."""
    import hashlib

    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if kind == "cifar10" else CIFAR100
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    labels = "labels" if kind == "cifar10" else "fine_labels"
    for attribute in ("train_list", "test_list"):
        names = [name for name, _ in getattr(reader, attribute)]
        lists = [write(name, {"data": rows, labels: [1, 0]}) for name in names]
        monkeypatch.setattr(reader, attribute, lists)
    meta = dict(reader.meta)
    _, meta["md5"] = write(meta["filename"], {meta["key"]: ["frog", "ship"]})
    monkeypatch.setattr(reader, "meta", meta)
    return rows.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("kind", "name", "train"),
    [("cifar10", "cifar-10-batches-py", 10), ("cifar100", "cifar-100-python", 2)],
)
def test_cifar_is_read_from_its_folder_or_the_one_above(tmp_path, monkeypatch, kind, name, train):
    images = write_cifar(tmp_path / name, monkeypatch, kind)
    for path in (tmp_path, tmp_path / name):
        source = open_source(path, "train", labeled=True)
        assert len(source) == train and source.classes == ["frog", "ship"] and source.in_memory
        assert source.labels[:2].tolist() == [1, 0]
        np.testing.assert_array_equal(np.asarray(source.read(1)), images[1])
    assert len(open_source(tmp_path, "val")) == 2


def test_cifar_with_a_foreign_pickle_is_refused_unread(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"corrupted.*Unpack it again"):
        open_source(tmp_path, "train")
