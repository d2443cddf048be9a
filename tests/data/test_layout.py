"""What a folder of images means, told by the names of its folders."""

import os
from pathlib import Path

import pytest
from image_files import photo, save

from mgd_ssl.data import ImageSource, NoValidationError, data_line, open_source, subset
from mgd_ssl.data.layout import Layout, find_layout, split_kinds


def tree(root: Path, **counts: int) -> Path:
    """As many images in each folder as ``counts`` says, "/" written as "__"."""
    for number, (name, count) in enumerate(counts.items()):
        folder = root / name.replace("__", "/")
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            save(folder / f"{i}.png", photo(10 * number + i))
    return root


def paths(source: ImageSource) -> list[str]:
    return [os.path.relpath(source.describe(i), source.name) for i in range(len(source))]


# names


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Train", "Val"),
        ("TRAIN", "TEST"),
        ("train2017", "val2017"),
        ("train_2012", "val_2012"),
        ("training", "validation"),
        ("training_set", "test_set"),
        ("trainset", "testset"),
        ("seg_train", "seg_test"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
    ],
)
def test_parts_are_recognised_however_they_are_spelt(tmp_path: Path, train: str, val: str) -> None:
    tree(tmp_path, **{f"{train}__a": 2, f"{train}__b": 1, f"{val}__a": 1, f"{val}__b": 1})
    assert find_layout(tmp_path) == Layout(tmp_path / train, tmp_path / val)
    assert len(open_source(tmp_path, "train")) == 3
    assert open_source(tmp_path, "val", labeled=True).labels is not None


def test_names_that_only_contain_such_a_word_are_classes() -> None:
    places = ["train_interior", "train_station", "test_track", "validity", "constraint"]
    assert split_kinds(places) == {}
    assert split_kinds(["bus", "train"]) == {"train": "train"}


def test_a_tree_without_such_names_is_training_images_as_a_whole(tmp_path: Path) -> None:
    assert find_layout(tree(tmp_path, bus=1, car=1)) == Layout(tmp_path)


# what is ambiguous, and how to choose


def test_a_class_called_train_is_not_taken_for_the_training_part(tmp_path: Path) -> None:
    tree(tmp_path, bus=2, car=2, train=2)
    for labeled in (False, True):
        with pytest.raises(ValueError, match=r"train/ and in bus/, car/; .*--train-folder \."):
            open_source(tmp_path, "train", labeled)
    whole = open_source(tmp_path, "train", labeled=True, train_folder=".")
    assert whole.classes == ["bus", "car", "train"] and len(whole) == 6
    assert len(open_source(tmp_path, "train", train_folder="train")) == 2


@pytest.mark.parametrize("name", ["test", "valid"])
def test_a_class_called_as_a_validation_part_is_not_left_out(tmp_path: Path, name: str) -> None:
    tree(tmp_path, **{"control": 2, name: 2})
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=rf"{name}/ and in control/.*--train-folder \."):
            open_source(tmp_path, split)
    assert len(open_source(tmp_path, "train", train_folder=".")) == 4


def test_images_beside_the_training_part_are_not_left_out(tmp_path: Path) -> None:
    save(tree(tmp_path, train=2) / "x.png", photo())
    with pytest.raises(ValueError, match="train/ and in 1 images outside folders"):
        open_source(tmp_path, "train")


@pytest.mark.parametrize("names", [("train", "training"), ("train2014", "train2017")])
def test_two_training_parts_are_refused_and_either_can_be_chosen(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    tree(tmp_path, **{names[0]: 1, names[1]: 2, "val": 3})
    with pytest.raises(ValueError, match=f"{names[0]}/, {names[1]}/ .*--train-folder {names[0]}"):
        open_source(tmp_path, "train")
    assert len(open_source(tmp_path, "train", train_folder=names[1])) == 2
    assert len(open_source(tmp_path, "val", train_folder=names[1])) == 3


def test_two_validation_parts_are_refused_and_either_can_be_chosen(tmp_path: Path) -> None:
    tree(tmp_path, train=1, val2014=2, val2017=3)
    with pytest.raises(ValueError, match="--val-folder val2014"):
        open_source(tmp_path, "val")
    assert len(open_source(tmp_path, "val", val_folder="val2017")) == 3


def test_unlabeled_images_without_val_belong_to_the_tree(tmp_path: Path) -> None:
    tree(tmp_path, train__a=1, train__b=1, unlabeled=5)
    assert len(open_source(tmp_path, "train")) == 7
    labeled = open_source(tmp_path, "train", labeled=True)
    assert len(labeled) == 2 and labeled.unused == ("unlabeled/",)


def test_unlabeled_images_beside_train_and_val_are_chosen_or_not(tmp_path: Path) -> None:
    tree(tmp_path, train__a=1, train__b=1, test__a=1, test__b=1, unlabeled=5)
    with pytest.raises(ValueError, match=r"--train-folder train or .*--train-folder unlabeled"):
        open_source(tmp_path, "train")
    assert len(open_source(tmp_path, "train", train_folder="unlabeled")) == 5
    assert len(open_source(tmp_path, "val", train_folder="unlabeled")) == 2
    for split in ("train", "val"):
        assert open_source(tmp_path, split, labeled=True).unused == ("unlabeled/",)


def test_what_stands_beside_train_and_val_is_said_to_be_unused(tmp_path: Path) -> None:
    tree(tmp_path, train=1, val=1, test=1, extra=1, empty=0)
    save(tmp_path / "preview.png", photo())
    expected = ("extra/", "test/", "1 images outside folders")
    assert open_source(tmp_path, "train").unused == expected


def test_parts_further_down_are_not_trained_on_together(tmp_path: Path) -> None:
    tree(tmp_path, archive__train=1, archive__test=2)
    with pytest.raises(ValueError, match=r"archive/ holds test/, train/.*Name .*/archive as the"):
        open_source(tmp_path, "train")
    assert len(open_source(tmp_path, "train", train_folder=".")) == 3
    assert len(open_source(tmp_path, "train", train_folder="archive/train")) == 1


def test_data_sets_beside_each_other_are_to_be_named_one_by_one(tmp_path: Path) -> None:
    tree(tmp_path, coco__train2017=1, imagenet__train=1, imagenet__val=2)
    said = (
        r"coco/ holds train2017/; imagenet/ holds train/, val/.* 2 data sets: .*/coco \S+/imagenet"
    )
    with pytest.raises(ValueError, match=said):
        open_source(tmp_path, "train")


def test_folders_of_class_folders_are_said_to_look_like_data_sets(tmp_path: Path) -> None:
    tree(tmp_path, cars__a=1, cars__b=1, flowers__a=1, flowers__b=1)
    source = open_source(tmp_path, "train", labeled=True)
    assert source.classes == ["cars", "flowers"]
    line = data_line({"training": subset(source, 3, seed=0)})
    assert f"if these are 2 data sets, name one, or one after the other: {tmp_path}/cars" in line


@pytest.mark.parametrize(
    "folders",
    [["cars/a", "cars/b"], ["2023/01", "2023/02", "2024/01", "2024/02"], ["cars/a", "cars/b", "x"]],
)
def test_other_trees_do_not_look_like_data_sets(folders: list[str], tmp_path: Path) -> None:
    tree(tmp_path, **{folder.replace("/", "__"): 1 for folder in folders})
    assert "data sets" not in data_line({"training": open_source(tmp_path, "train")})


def test_an_empty_validation_folder_is_none(tmp_path: Path) -> None:
    tree(tmp_path, train=2, val=0)
    assert find_layout(tmp_path) == Layout(tmp_path / "train")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train_folder": "nowhere"}, r"--train-folder: got nowhere.*expected one of a, b, c"),
        ({"train_folder": "a", "val_folder": "a"}, "images in common"),
        ({"train_folder": ".", "val_folder": "a"}, "images in common"),
        ({"train_folder": "a", "val_folder": "."}, "images in common"),
        ({"val_folder": "."}, "without a training folder"),
        ({"val_folder": "a"}, "without a training folder"),
    ],
)
def test_folders_that_do_not_go_together_are_refused(
    tmp_path: Path, given: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        open_source(tree(tmp_path, a=1, b=1, c=1), "train", **given)  # type: ignore[arg-type]


def test_folders_are_refused_where_the_data_has_none() -> None:
    with pytest.raises(ValueError, match=r"got train with .*, which has no folders"):
        open_source(None, "train", train_folder="train")


# what is left out


def test_what_systems_leave_is_no_class_and_is_counted(tmp_path: Path) -> None:
    tree(tmp_path, a=2, b=1, b__deep=1)
    for name in ("__MACOSX", "a/@eaDir/0.jpg", "lost+found", ".thumbnails", "#recycle", "b/@eaDir"):
        save(tmp_path / name / "x.png", photo())
    for name in ("Thumbs.db", "a/desktop.ini", "a/._0.png", "notes.txt", "b/README"):
        (tmp_path / name).write_text("x")
    source = open_source(tmp_path, "train", labeled=True)
    assert source.classes == ["a", "b"] and len(source) == 4
    expected = "2 @eaDir/, 2 hidden, 1 #recycle/, 1 .db, 1 .ini, 1 .txt, 1 __MACOSX/, 1 lost+found/"
    assert source.skipped == f"{expected}, 1 without an extension"


def test_only_files_are_images(tmp_path: Path) -> None:
    tree(tmp_path, **{"cat.png": 2, "dog.jpg": 1})
    (tmp_path / "cat.png" / "link.png").symlink_to(tmp_path / "dog.jpg" / "0.png")
    (tmp_path / "cat.png" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for own in ("itself.png", "itself"):  # no file and no folder: the system follows it for ever
        (tmp_path / own).symlink_to(own)
    os.mkfifo(tmp_path / "dog.jpg" / "pipe.png")
    source = open_source(tmp_path, "train", labeled=True)
    assert paths(source) == ["cat.png/0.png", "cat.png/1.png", "cat.png/link.png", "dog.jpg/0.png"]
    assert source.skipped == "3 links that lead nowhere, 1 pipes, sockets or devices"


def test_folders_without_images_shift_no_labels(tmp_path: Path) -> None:
    tree(tmp_path, train__a=1, train__b=0, train__c=1, val__c=2, val__a=1)
    (tmp_path / "train" / "b" / "boxes.xml").write_text("x")
    train, val = (open_source(tmp_path, split, labeled=True) for split in ("train", "val"))
    assert train.classes == val.classes == ["a", "c"]
    assert val.labels is not None and val.labels.tolist() == [0, 1, 1]
    assert train.skipped == "1 .xml; no images in b/"


def test_a_class_of_a_format_that_is_not_read_is_refused_where_labels_are_wanted(
    tmp_path: Path,
) -> None:
    (tree(tmp_path, a=1, b=0, c=1) / "b" / "x.HEIC").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"b/ would be a class.*\(1 \.heic\).*Convert"):
        open_source(tmp_path, "train", labeled=True)
    assert open_source(tmp_path, "train").skipped == "1 .heic; no images in b/"


# the line


def test_the_line_says_what_is_used_for_what_and_what_is_not(tmp_path: Path) -> None:
    tree(tmp_path, train__a=2, train__b=1, train__c=1, val__a=1, val__c=1, test=1)
    (tmp_path / "val" / "list.txt").write_text("x")
    train, val = (open_source(tmp_path, split, labeled=True) for split in ("train", "val"))
    assert data_line({"training": subset(train, 3), "the bank": train, "kNN": val}) == (
        f"data: {tmp_path}/train (4 images, 3 classes): 3 for training, 4 for the bank; "
        f"{tmp_path}/val (2 images, 2 of 3 classes): 2 for kNN; not used: test/; "
        f"skipped in {tmp_path}/val: 1 .txt"
    )


def test_long_lists_are_cut_and_the_rest_counted(tmp_path: Path) -> None:
    tree(tmp_path, train=1, val=1, **{f"z{i:02}": 1 for i in range(12)})
    for i in range(13):
        (tmp_path / "train" / f"x.e{i:02}").write_text("x")
    source = open_source(tmp_path, "train")
    assert source.skipped.endswith("1 .e09, 3 others")
    assert "z09/, 2 others; skipped" in data_line({"training": source})


def test_names_are_escaped_in_the_line(tmp_path: Path) -> None:
    odd = tmp_path / "two\nlines\udcff"
    assert r"/two\nlines\udcff (1 images" in data_line({"x": open_source(tree(odd, a=1), "train")})


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    save(tmp_path / "x.png", photo()).rename(os.fsdecode(folder + b"/\xff.png"))
    source = open_source(tmp_path, "train")
    assert source.read(0).size == (48, 40)
    assert os.fsencode(source.describe(0)) == folder + b"/\xff.png"


@pytest.mark.parametrize("train", ["val", "val/a"])
def test_the_training_part_is_not_its_own_validation_part(tmp_path: Path, train: str) -> None:
    tree(tmp_path, train=1, val__a=2, val__b=1)
    assert len(open_source(tmp_path, "train", train_folder=train)) == (3 if train == "val" else 2)
    with pytest.raises(NoValidationError):
        open_source(tmp_path, "val", train_folder=train)
    tree(tmp_path, test=4)
    assert len(open_source(tmp_path, "val", train_folder=train)) == 4


def test_a_link_that_leads_back_is_no_class(tmp_path: Path) -> None:
    tree(tmp_path, train__cat=2, train__dog=2, val__cat=1, val__dog=1)
    (tmp_path / "train" / "all").symlink_to(".")
    for split, labels in (("train", [0, 0, 1, 1]), ("val", [0, 1])):
        source = open_source(tmp_path, split, labeled=True)  # type: ignore[arg-type]
        assert source.classes == ["cat", "dog"]
        assert source.labels is not None and source.labels.tolist() == labels
