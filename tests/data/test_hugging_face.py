"""Parquet, Arrow and the hub's data sets give the images of the folder that they were made from."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archive_files import names, png
from image_files import class_tree, photo, truncate

from mgd_ssl.data import data_digest, data_line, make_loader, open_source
from mgd_ssl.data.hub_columns import image_column, label_column
from mgd_ssl.data.readers import hugging_face

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    class_tree(root / "train", {"cat": 3, "dog": 4})
    class_tree(root / "val", {"dog": 2})
    return root


def rows(folder: Path, split: str, classes: Any = None) -> Any:
    """The files of a folder as rows, with the names that they have in it."""
    files = sorted((folder / split).rglob("*.png"))
    content = {
        "label": [["cat", "dog"].index(file.parent.name) for file in files],
        "image": [
            {"bytes": file.read_bytes(), "path": str(file.relative_to(folder / split))}
            for file in files
        ],
    }
    label = datasets.ClassLabel(names=["cat", "dog"]) if classes is None else classes
    features = datasets.Features({"label": label, "image": datasets.Image()})
    return datasets.Dataset.from_dict(content, features=features)


def table(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


PHOTOS = [png(photo(i)) for i in range(4)]


def write(folder: Path, kind: str) -> Path:
    """The folder's rows in one of the forms that people keep."""
    out = folder.parent / kind
    out.mkdir()
    parts = {"train": rows(folder, "train"), "validation": rows(folder, "val")}
    if kind == "saved":
        datasets.DatasetDict(parts).save_to_disk(out)
        return out
    for name, part in parts.items():
        if kind == "one":
            part.to_parquet(out / f"{name}.parquet")
        elif kind == "repository":
            (out / "data").mkdir(exist_ok=True)
            for i in range(2):
                shard = part.shard(2, i, contiguous=True)
                shard.to_parquet(out / "data" / f"{name}-0000{i}-of-00002.parquet")
        elif kind == "folders":
            part.to_parquet(out / name / "0.parquet")
    return out / "train.parquet" if kind == "one" else out


@pytest.mark.parametrize("kind", ["one", "repository", "folders", "saved"])
def test_rows_are_the_images_of_the_folder_they_were_made_from(folder: Path, kind: str) -> None:
    path = write(folder, kind)
    for split in ("train", "val"):
        mine, theirs = (open_source(p, split, labeled=True) for p in (path, folder))  # type: ignore[arg-type]
        files = [Path(name).name if kind == "saved" else name for name in names(theirs)]
        assert names(mine) == files and mine.classes == theirs.classes
        sizes = [[source.stored(i)[1] for i in range(len(source))] for source in (mine, theirs)]
        assert sizes[0] == sizes[1]
        assert mine.labels is not None and theirs.labels is not None
        assert mine.labels.tolist() == theirs.labels.tolist()
        assert mine.encoded(1) == theirs.encoded(1)
        for workers in (0, 2):
            loaders = [
                make_loader(s, 32, 2, train=split == "train", workers=workers)
                for s in (mine, theirs)
            ]
            for a, b in zip(*loaders, strict=True):
                assert all(map(torch.equal, a[:4], b[:4]))


def test_the_digest_tells_other_images_and_other_labels_apart(tmp_path: Path) -> None:
    digests = set()
    for i, (images, labels) in enumerate(
        [(PHOTOS[:3], [0, 1, 0]), (PHOTOS[:3], [0, 1, 1]), (PHOTOS[1:], [0, 1, 0])] * 2
    ):
        path = table(tmp_path / f"{i}.parquet", image=images, label=labels)
        digests.add(data_digest(open_source(path, "train")))
    assert len(digests) == 3


def test_a_source_reaches_workers_without_its_images(folder: Path) -> None:
    source = open_source(write(folder, "repository"), "train", labeled=True)
    received = pickle.loads(pickle.dumps(source))
    assert names(received) == names(source) and received.encoded(5) == source.encoded(5)


# columns


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.parquet",
        first=PHOTOS[:3],
        second=PHOTOS[1:],
        coarse=[0, 0, 1],
        fine=["ant", "bee", "ant"],
    )
    with pytest.raises(ValueError, match=r"several columns of images among .*\?image=COLUMN"):
        open_source(path, "train")
    source = open_source(f"{path}?image=second", "train")
    assert source.encoded(0) == PHOTOS[1] and source.labels is None
    source = open_source(f"{path}?image=first&label=fine", "train", labeled=True)
    assert source.classes == ["ant", "bee"]
    assert source.labels is not None and source.labels.tolist() == [0, 1, 0]


def test_the_usual_names_go_before_others() -> None:
    binary, number = datasets.Value("binary"), datasets.Value("int64")
    features = {"mask": binary, "img": binary, "fine_label": number, "label": number, "id": number}
    assert image_column("x", features, None) == "img"
    assert label_column("x", features, None) == "label"
    with pytest.raises(ValueError, match=r"no column of labels among id .*label=COLUMN"):
        label_column("x", {"id": number, "img": binary}, None)
    two = {"a": datasets.ClassLabel(names=["x"]), "b": datasets.ClassLabel(names=["y"])}
    with pytest.raises(ValueError, match=r"several columns of labels among a .*label=COLUMN"):
        label_column("x", two, None)


@pytest.mark.parametrize("query", ["?picture=a", "?image", "?image=", "?config=b"])
def test_an_option_that_is_not_known_is_refused(tmp_path: Path, query: str) -> None:
    path = table(tmp_path / "a.parquet", image=PHOTOS)
    with pytest.raises(ValueError, match=r"behind the question mark; expected image, label, as in"):
        open_source(f"{path}{query}", "train")


# labels


def test_words_are_sorted_and_those_of_training(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", image=PHOTOS, label=["hen", "ape", "cow", "ape"])
    table(tmp_path / "test.parquet", image=PHOTOS[:1], label=["hen"])
    val = open_source(tmp_path, "val", labeled=True)
    assert val.classes == ["ape", "cow", "hen"]
    assert val.labels is not None and val.labels.tolist() == [2]
    table(tmp_path / "test.parquet", image=PHOTOS[:1], label=["yak"])
    with pytest.raises(ValueError, match="classes that the training images have not: yak"):
        open_source(tmp_path, "val", labeled=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, None, 1, 0], "1 of 4 rows have no label"), ([0, -1, 1, 0], "1 of 4 labels are negative")],
)
def test_mixed_labels_are_refused_where_labels_are_wanted(
    tmp_path: Path, labels: list[int], message: str
) -> None:
    path = table(tmp_path / "a.parquet", image=PHOTOS, label=labels)
    with pytest.raises(ValueError, match=message):
        open_source(path, "train", labeled=True)
    assert open_source(path, "train").labels is None


def test_a_column_of_labels_of_another_name_is_asked_for_and_taken(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", img=PHOTOS, species=["hen", "ape", "cow", "ape"])
    with pytest.raises(ValueError, match=r"no column of labels among .*species.*label=COLUMN"):
        open_source(path, "train", labeled=True)
    assert open_source(path, "train").labels is None
    named = open_source(f"{path}?label=species", "train", labeled=True)
    assert named.labels is not None and named.labels.tolist() == [2, 0, 1, 0]


def test_images_of_which_none_has_a_name_are_read(tmp_path: Path) -> None:
    """As pandas writes them: a field of None alone has a type of its own."""
    images = pa.array([{"bytes": content, "path": None} for content in PHOTOS])
    assert pa.types.is_null(images.type.field("path").type)
    source = open_source(table(tmp_path / "a.parquet", image=images), "train")
    found = [np.asarray(source.read(i)) for i in range(4)]
    np.testing.assert_array_equal(found, [photo(i) for i in range(4)])


def test_labels_that_are_kept_secret_are_none(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=PHOTOS, label=[-1] * 4)
    with pytest.raises(ValueError, match="4 images without labels"):
        open_source(path, "train", labeled=True)


# what is refused


def test_a_parquet_without_images_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", text=["a", "b"], score=[1.0, 2.0])
    said = r"no column of images among text \(string\), score \(float64\); expected one"
    with pytest.raises(ValueError, match=said):
        open_source(path, "train")
    with pytest.raises(ValueError, match=r"no column score of images.*Name it: DATA\?image=COL"):
        open_source(f"{path}?image=score", "train")


@pytest.mark.parametrize("query", ["", "?image=place"])
def test_a_column_of_paths_is_sent_to_a_list(tmp_path: Path, query: str) -> None:
    path = table(tmp_path / "a.parquet", place=["a.png", "b.png"], cls=[0, 1])
    said = r"Files that rows name are not followed; if place holds paths.* a list \(.txt, .csv\)"
    with pytest.raises(ValueError, match=said):
        open_source(f"{path}{query}", "train")


def test_files_that_rows_name_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(PHOTOS[0])
    named = [{"bytes": None, "path": str(secret)}] * 2
    path = table(tmp_path / "a.parquet", image=pa.array(named, pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())])))  # fmt: skip
    with pytest.raises(ValueError, match="no row of image holds an image's bytes, at most names"):
        open_source(path, "train")
    some = [*named, {"bytes": PHOTOS[1], "path": "b.png"}]
    path = table(tmp_path / "b.parquet", image=some)
    source = open_source(path, "train")
    assert source.encoded(2) == PHOTOS[1]
    batch = next(iter(make_loader(source, 32, 3, train=False)))
    assert batch.failed.tolist() == [0, 1, -1] and batch.indices.tolist() == [2, 2, 2]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = truncate(table(tmp_path / "a.parquet", image=PHOTOS))
    with pytest.raises(ValueError, match=r"a\.parquet: cannot be read .*expected a data set"):
        open_source(path, "train")


def test_the_package_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "a.parquet", image=PHOTOS)
    monkeypatch.setattr(hugging_face.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"datasets is not installed.*pip install 'datasets"):
        open_source(path, "train")


def test_no_rows_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=pa.array([], pa.binary()))
    for data in (path, tmp_path):
        with pytest.raises(ValueError, match=r": no rows; expected images"):
            open_source(data, "train")


@pytest.mark.parametrize("empty", [0, 1])
def test_files_without_rows_are_left_out_and_counted(tmp_path: Path, empty: int) -> None:
    for part, labels in {"train": ["ape", "cow", "ape"], "validation": ["cow"]}.items():
        for i in range(2):
            given = [] if i == empty else labels
            images = pa.array(PHOTOS[: len(given)], pa.binary())
            name = f"{part}-0000{i}-of-00002.parquet"
            table(tmp_path / "data" / name, image=images, label=pa.array(given, pa.string()))
    train, val = (open_source(tmp_path, split, labeled=True) for split in ("train", "val"))  # type: ignore[arg-type]
    assert [train.encoded(i) for i in range(len(train))] == PHOTOS[:3]
    assert train.classes == val.classes == ["ape", "cow"]
    assert val.labels is not None and val.labels.tolist() == [1]
    assert f"skipped in {train.name}: 1 files without rows" in data_line({"training": train})


# the hub


def test_a_name_on_the_hub_is_loaded_with_its_parts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(name: str, config: Any, *, split: str, revision: Any) -> Any:
        asked.append((name, config, split, revision))
        return rows(folder, "train" if split == "train" else "val")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(
        datasets, "get_dataset_split_names", lambda *_, **__: ["train", "test", "validation"]
    )
    source = open_source("hf:some/data?config=small&revision=main&label=label", "train", True)
    assert names(source)[0] == "cat/0.png" and source.name == "hf:some/data[train]"
    assert len(open_source("hf:some/data", "val", labeled=True)) == 2
    assert asked == [
        ("some/data", "small", "train", "main"),
        ("some/data", None, "validation", None),
    ]


def test_a_name_that_the_hub_has_not_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("no such thing")

    monkeypatch.setattr(datasets, "get_dataset_split_names", refuse)
    with pytest.raises(ValueError, match=r"hf:some/data: cannot be read .*no such thing.*Check th"):
        open_source("hf:some/data", "train")


def test_images_of_arrow_files_are_read(folder: Path) -> None:
    rows(folder, "train").save_to_disk(folder.parent / "saved")
    file = next((folder.parent / "saved").glob("*.arrow"))
    source = open_source(file, "train")
    expected = np.asarray(open_source(folder, "train").read(2))
    np.testing.assert_array_equal(source.read(2), expected)
    assert io.BytesIO(source.encoded(0) or b"").read(4) == b"\x89PNG"


@pytest.mark.parametrize("data", ["hf:", "hf:?label=label"])
def test_no_name_on_the_hub_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match="got no name behind hf:, expected hf:NAME"):
        open_source(data, "train")
