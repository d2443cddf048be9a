"""A run from shards is the run from the folder that they were packed from."""

import json
import zipfile
from pathlib import Path

import pytest
from forked import killed_in_step
from image_files import class_tree
from test_resume import assert_same_end
from tiny_runs import arguments

from mgd_ssl.commands import knn_eval, pack, pretrain

RUN = ("--epochs", "2", "--limit", "48", "--save-every", "1", "-p", "1", "--knn-every", "1")
RUN = (*RUN, "--knn-k", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "folder"
    class_tree(root / "train", {"cat": 30, "dog": 26})
    class_tree(root / "val", {"cat": 4, "dog": 4})
    (root / "train" / "cat" / "7.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def shards(folder: Path) -> Path:
    out = folder.parent / "shards"
    assert pack.main([str(folder), "--out", str(out), "--shard-images", "20"]) == 0
    return out


def command(data: Path, run: Path, teacher: Path, *more: str) -> list[str]:
    return [str(data), *arguments(run, teacher, *RUN, "--bad-images", "1", *more)]


@pytest.fixture(scope="module")
def from_folder(tmp_path_factory: pytest.TempPathFactory, folder: Path, teacher: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "folder"
    assert pretrain.main(command(folder, run, teacher)) == 0
    return run


@pytest.fixture(scope="module")
def from_shards(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "shards"
    assert pretrain.main(command(shards, run, teacher, "-j", "1")) == 0
    return run


def test_a_run_from_shards_ends_with_the_same_bits(from_shards: Path, from_folder: Path) -> None:
    assert_same_end(from_shards, from_folder)


def test_a_run_begun_on_the_folder_is_finished_on_the_shards(
    tmp_path: Path, folder: Path, shards: Path, teacher: Path, from_folder: Path
) -> None:
    run = tmp_path / "run"
    killed_in_step(5, "pretrain", command(folder, run, teacher))
    assert pretrain.main(command(shards, run, teacher, "--resume")) == 0
    assert_same_end(run, from_folder)


def test_other_shards_are_no_continuation(
    shards: Path, teacher: Path, from_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shards / "train" / "000001.tar").rename(shards / "train" / "000007.tar")
    try:
        assert pretrain.main(command(shards, from_shards, teacher, "--resume")) == 1
    finally:
        (shards / "train" / "000007.tar").rename(shards / "train" / "000001.tar")
    said = capsys.readouterr().err
    assert "1 are new, such as 000007.tar; 1 are gone, such as 000001.tar" in said
    assert "training images as in the checkpoint, but of other names" in said


def kept(folder: Path, shards: Path, kind: str) -> Path:
    """The folder's images in another form."""
    place = folder.parent / kind
    if kind == "shards":
        return shards
    if place.exists():
        return place
    if kind == "images.zip":
        with zipfile.ZipFile(place, "w") as archive:
            for file in folder.rglob("*.*"):
                archive.write(file, file.relative_to(folder))
    elif kind == "train.txt":
        for split in ("train", "val"):
            files = sorted((folder / split).rglob("*.*"))
            text = "".join(f"{file}\t{file.parent.name}\n" for file in files)
            place.with_stem(split).write_text(text)
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        place.mkdir()
        for split in ("train", "val"):
            files = sorted((folder / split).rglob("*.*"))
            columns = {
                "image": [file.read_bytes() for file in files],
                "label": [file.parent.name for file in files],
            }
            table = pytest.importorskip("pyarrow").table(columns)
            parquet.write_table(table, place / f"{split}.parquet")
    return place


@pytest.mark.parametrize("kind", ["shards", "images.zip", "train.txt", "parquet"])
def test_every_kind_of_data_gives_the_same_knn_figures(
    tmp_path: Path,
    folder: Path,
    shards: Path,
    from_folder: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "parquet":
        config = pytest.importorskip("datasets").config
        monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    found = []
    for name, data in (("a", folder), ("b", kept(folder, shards, kind))):
        out = tmp_path / f"{name}.json"
        words = [str(from_folder), str(data), "--knn-k", "1", "5", "--out", str(out)]
        assert knn_eval.main(words) == 0
        result = json.loads(out.read_text())
        found.append({k: v for k, v in result.items() if k not in ("data", "versions", "time")})
    assert found[0] == found[1] and found[0]["train_images"] == 55
    assert found[0]["train_unreadable"] == 1
