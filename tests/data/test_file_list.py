"""Lists of paths, with or without classes beside them."""

import os
from pathlib import Path

import pytest
from archive_files import names
from image_files import class_tree, photo, save

from mgd_ssl.data import data_digest, open_source


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return class_tree(tmp_path, {"cat": 2, "dog": 3})


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_text("".join(line + end for line in lines), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_list_or_absolute(images: Path) -> None:
    elsewhere = save(images.parent / "elsewhere" / "fish" / "0.png", photo(7))
    path = write(images / "some.txt", "dog/1.png", "", str(elsewhere), "cat/0.png")
    source = open_source(path, "train", labeled=True)
    assert [source.describe(i) for i in range(3)] == [
        str(images / "dog" / "1.png"),
        str(elsewhere),
        str(images / "cat" / "0.png"),
    ]
    assert source.classes == ["cat", "dog", "fish"]
    assert source.labels is not None and source.labels.tolist() == [1, 2, 0]


def test_several_classes_of_an_image_are_said_to_be_one(
    images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(images / "some.csv", 'dog/1.png,"dog,pet"', "cat/0.png,cat")
    assert open_source(path, "train", labeled=True).classes == ["cat", "dog,pet"]
    said = "1 of 2 images have a class with a comma in it, such as dog,pet: it is one class"
    assert said in caplog.text


def test_a_list_of_a_whole_folder_is_the_folder(images: Path) -> None:
    theirs = open_source(images, "train", labeled=True)
    mine = open_source(write(images / "all.txt", *names(theirs)), "train", labeled=True)
    assert mine.classes == theirs.classes and data_digest(mine) == data_digest(theirs)
    assert mine.labels is not None and theirs.labels is not None
    assert mine.labels.tolist() == theirs.labels.tolist()


@pytest.mark.parametrize("folders", [["1", "2", "10"], ["1", "10", "cat"]])
def test_folders_that_are_called_like_numbers_are_names_of_classes(
    tmp_path: Path, folders: list[str]
) -> None:
    trees = [class_tree(tmp_path / part, dict.fromkeys(folders, 2)) for part in ("train", "val")]
    class_tree(trees[0], {"3": 1})
    for tree in trees:
        paths = [f"{tree.name}/{name}" for name in names(open_source(tree, "train"))]
        write(tmp_path / f"{tree.name}.txt", *paths)
    for split in ("train", "val"):
        mine, theirs = (
            open_source(path, split, labeled=True)  # type: ignore[arg-type]
            for path in (tmp_path / "train.txt", tmp_path)
        )
        assert mine.classes == theirs.classes == sorted([*folders, "3"])
        assert mine.labels is not None and theirs.labels is not None
        assert mine.labels.tolist() == theirs.labels.tolist()


def test_the_digest_of_a_list_of_numbered_folders_is_that_of_the_folder(tmp_path: Path) -> None:
    theirs = open_source(class_tree(tmp_path, {"1": 1, "2": 1, "10": 2}), "train")
    mine = open_source(write(tmp_path / "all.txt", *names(theirs)), "train")
    assert data_digest(mine) == data_digest(theirs)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.txt", ["dog/0.png 3", "cat/0.png 0", "my dog.png   3"]),
        ("a.txt", ["dog/0.png\t3", "cat/0.png\t0", "my dog.png\t3"]),
        ("a.lst", ["\ufeffdog/0.png 3", "cat/0.png 0", "my dog.png 3"]),
        ("a.csv", ["dog/0.png,3", "cat/0.png,0", '"my dog.png",3']),
        ("a.csv", ["path,label", "dog/0.png,3", "cat/0.png, 0", "my dog.png,3"]),
        ("a.tsv", ["dog/0.png\t3", "", "cat/0.png\t0", "my dog.png\t3"]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_second_column_is_the_class(
    images: Path, name: str, lines: list[str], end: str
) -> None:
    save(images / "my dog.png", photo())
    source = open_source(write(images / name, *lines, end=end), "train", labeled=True)
    assert names(source) == ["dog/0.png", "cat/0.png", "my dog.png"]
    assert source.labels is not None and source.labels.tolist() == [3, 0, 3]
    assert source.classes is None


def test_names_of_classes_are_sorted_and_part_of_the_digest(images: Path) -> None:
    digests = set()
    for hen, labels in (("hen", [0, 1]), ("ape", [1, 0])):
        path = write(images / "a.txt", "dog/0.png\tcow", f"cat/0.png\t{hen}")
        source = open_source(path, "train", labeled=True)
        assert source.classes == sorted(["cow", hen])
        assert source.labels is not None and source.labels.tolist() == labels
        digests.add(data_digest(source))
    assert len(digests) == 2


def test_val_is_the_list_beside_train(images: Path) -> None:
    train = write(images / "train_list.txt", "cat/0.png", "dog/0.png", "dog/1.png")
    with pytest.raises(ValueError, match=r"no validation images; expected files called like train"):
        open_source(write(images / "all.txt", "cat/0.png"), "val")
    with pytest.raises(ValueError, match="no validation images"):
        open_source(train, "val")
    write(images / "val_list.txt", "dog/2.png")
    source = open_source(train, "val", labeled=True)
    assert names(source) == ["dog/2.png"] and source.classes == ["cat", "dog"]
    assert source.labels is not None and source.labels.tolist() == [1]
    with pytest.raises(ValueError, match="which has no folders of images"):
        open_source(train, "train", train_folder="cat")


def test_missing_files_are_counted_and_three_named(images: Path) -> None:
    lines = ["cat/0.png", *(f"cat/{i}.png" for i in range(5, 9)), "nowhere/0.png"]
    path = write(images / "a.txt", *lines)
    said = r"5 of 6 files are not there, among them cat/5\.png, cat/6\.png, cat/7\.png; expected"
    with pytest.raises(ValueError, match=said):
        open_source(path, "train")
    (images / "broken.png").symlink_to(images / "nowhere.png")
    with pytest.raises(ValueError, match="2 of 2 files are not there"):
        open_source(write(images / "b.txt", "cat", "broken.png"), "train")  # cat is a folder


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["cat/0.png 0", "dog/0.png"], "1 of 2 images have no label"),
        (["cat/0.png 0", "dog/0.png dog"], "labels are numbers and names, such as 0 and dog"),
        (["cat/0.png", "cat/1.png"], "no labels: cat is the only class; expected two or more"),
    ],
)
def test_mixed_labels_are_refused_where_labels_are_wanted(
    images: Path, lines: list[str], message: str
) -> None:
    path = write(images / "a.txt", *lines)
    with pytest.raises(ValueError, match=message):
        open_source(path, "train", labeled=True)
    assert open_source(path, "train").labels is None


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("cow hen", "0 1", "labels are numbers, such as 0, and those of .* class names, such as c"),
        ("0 1", "cow hen", "labels are class names, such as cow, and those of .* numbers, such as"),
    ],
)
def test_names_in_one_list_and_numbers_in_the_other_are_refused(
    images: Path, train: str, val: str, message: str
) -> None:
    for name, labels in (("train.csv", train), ("val.csv", val)):
        lines = [f"dog/{i}.png,{label}" for i, label in enumerate(labels.split())]
        write(images / name, *lines)
    assert open_source(images / "train.csv", "train", labeled=True).labels is not None
    with pytest.raises(ValueError, match=rf"val\.csv: {message}.*expected the same kind in both"):
        open_source(images / "train.csv", "val", labeled=True)
    assert open_source(images / "train.csv", "val").labels is None


def test_numbers_in_a_list_are_not_taken_for_folders_of_the_other(tmp_path: Path) -> None:
    class_tree(tmp_path, {"1": 2, "2": 2})
    write(tmp_path / "train.txt", "1/0.png", "2/0.png")
    write(tmp_path / "val.txt", "1/1.png 1", "2/1.png 2")
    with pytest.raises(ValueError, match=r"labels are numbers, such as 1, .* class names"):
        open_source(tmp_path / "train.txt", "val", labeled=True)


def test_an_empty_list_is_refused(images: Path) -> None:
    with pytest.raises(ValueError, match="an empty list; expected the path of an image"):
        open_source(write(images / "a.txt", "", "  "), "train")


def test_paths_of_any_bytes_are_read(images: Path) -> None:
    os.rename(os.fsencode(images / "cat" / "0.png"), os.fsencode(images) + b"/cat/\xff.png")
    (images / "a.txt").write_bytes(b"cat/\xff.png\n")
    assert open_source(images / "a.txt", "train").read(0).size == (48, 40)


def test_a_quote_that_is_never_closed_is_named_with_its_line(images: Path) -> None:
    lines = ["cat/0.png,cat", '"cat/1.png,cat', *["dog/0.png,dog"] * 10_000]
    with pytest.raises(ValueError, match=r"a\.csv, line \d+: field larger .* closing quote"):
        open_source(write(images / "a.csv", *lines), "train")


@pytest.mark.parametrize("rows", [(2,), (2, 7), (7,)], ids=str)
@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_stray_quote_swallows_no_images(
    images: Path, rows: tuple[int, ...], name: str, mark: str
) -> None:
    """One that is never closed, and two that close each other."""
    quotes = ['"' if i in rows else "" for i in range(10)]
    lines = [f"cat/{i % 2}.png{mark}{quote}cat" for i, quote in enumerate(quotes)]
    with pytest.raises(ValueError, match=r"a\..sv, line \d+: .*closing quote for each opening"):
        open_source(write(images / name, *lines), "train", labeled=True)


@pytest.mark.parametrize("first", ["dog/0,cat", "IMG_0,cat"])
def test_a_first_line_without_an_images_ending_is_no_header_where_it_is_a_path(
    images: Path, first: str
) -> None:
    for i in range(2):
        os.rename(images / "dog" / f"{i}.png", images / "dog" / str(i))
    os.rename(images / "dog" / "2.png", images / "IMG_0")
    source = open_source(write(images / "a.csv", first, "dog/1,dog"), "train", labeled=True)
    assert names(source) == [first.partition(",")[0], "dog/1"]
    with pytest.raises(ValueError, match="1 of 2 files are not there, among them dog/9;"):
        open_source(write(images / "b.csv", "dog/9,cat", "dog/1,dog"), "train")


def test_a_first_line_that_was_taken_for_column_names_is_named(images: Path) -> None:
    path = write(images / "a.csv", *(f"IMG_{i},cat" for i in range(4)))
    said = r"3 of 3 files are not there.*Line 1, IMG_0, was taken for the names of the columns\."
    with pytest.raises(ValueError, match=said):
        open_source(path, "train")
    with pytest.raises(ValueError, match=r"not there(?!.*Line 1).*Mend the list, or move it\."):
        open_source(write(images / "b.csv", "cat/7.png,cat", "cat/8.png,cat"), "train")


@pytest.mark.parametrize("header", [True, False])
def test_rows_are_counted_and_paths_in_the_second_column_are_named(
    images: Path, header: bool
) -> None:
    lines = ["label,path"] * header + [f"dog,dog/{i}.png" for i in range(3)]
    path = write(images / "a.csv", *lines)
    said = f"{2 + header} of {2 + header} files are not there, among them dog; .* paths are in col"
    with pytest.raises(ValueError, match=f"{said}umn 2; expected them in column 1"):
        open_source(path, "train")


@pytest.mark.parametrize(
    ("name", "mark", "said"),
    [
        ("a.csv", ";", "stands a semicolon, expected a comma"),
        ("a.csv", "\t", "stands a tab, expected a comma"),
        ("a.tsv", ",", "stands a comma, expected a tab"),
        ("a.txt", ",", "stands a comma, expected a tab or a space"),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_another_mark_between_the_columns_is_named(
    images: Path, name: str, mark: str, said: str, header: bool
) -> None:
    lines = [f"path{mark}label"] * (header and name != "a.txt")
    lines += [f"cat/{i}.png{mark}0" for i in range(2)]
    with pytest.raises(ValueError, match=f"2 of 2 files are not there.* {said}\\."):
        open_source(write(images / name, *lines), "train")
