import pickle
from pathlib import Path

import numpy as np
import pytest
from archive_files import png, write_tar
from image_files import class_tree, idx_folder, photo, save

from mgd_ssl.data import ArraySource, open_source, subset
from mgd_ssl.data.opening import SAMPLE
from mgd_ssl.data.readers import __file__ as package
from mgd_ssl.data.readers import readers


def paths(source) -> list[str]:
    return [source.describe(i) for i in range(len(source))]


# the embedded sample


def test_embedded_sample_has_600_and_100_images_a_class():
    for split, per_class in (("train", 600), ("val", 100)):
        source = open_source(None, split, labeled=True)
        assert np.bincount(source.labels).tolist() == [per_class] * 10
        assert source.labels.dtype == np.int64 and source.in_memory
        assert len(source.classes) == 10
        assert source.read(0).mode == "RGB" and source.read(0).size == (28, 28)


def test_embedded_sample_is_small_and_describes_its_images():
    assert SAMPLE.stat().st_size < 3.5e6
    assert open_source(None, "val").describe(17).endswith("fashion_mnist.npz[17]")


# folders


def test_class_folders_give_sorted_classes_and_paths(tmp_path):
    class_tree(tmp_path / "train", {"dog": 2, "cat": 3})
    class_tree(tmp_path / "val", {"cat": 1, "dog": 1})
    train = open_source(tmp_path, "train", labeled=True)
    assert train.classes == ["cat", "dog"] and train.labels.tolist() == [0, 0, 0, 1, 1]
    assert paths(train) == sorted(paths(train)) and not train.in_memory
    np.testing.assert_array_equal(np.asarray(train.read(3)), photo(0))  # dog/0.png
    assert open_source(tmp_path, "val", labeled=True).labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_validation_folder_has_one_of_the_usual_names(tmp_path, name):
    class_tree(tmp_path / "train", {"a": 1, "b": 1})
    class_tree(tmp_path / name, {"a": 2, "b": 1})
    assert len(open_source(tmp_path, "val")) == 3


def test_val_is_taken_before_test(tmp_path):
    class_tree(tmp_path / "test", {"a": 1, "b": 1})
    class_tree(tmp_path / "val", {"a": 2, "b": 2})
    assert len(open_source(tmp_path, "val")) == 4


def test_validation_labels_follow_the_training_classes(tmp_path):
    class_tree(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    class_tree(tmp_path / "val", {"b": 1, "c": 2})
    val = open_source(tmp_path, "val", labeled=True)
    assert val.classes == ["a", "b", "c"] and val.labels.tolist() == [1, 2, 2]


def test_validation_images_of_one_class_have_its_label(tmp_path):
    class_tree(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    class_tree(tmp_path / "val", {"b": 2})
    assert open_source(tmp_path, "val", labeled=True).labels.tolist() == [1, 1]


def test_validation_class_unknown_to_train_is_refused_where_labels_are_wanted(tmp_path):
    class_tree(tmp_path / "train", {"a": 1, "b": 1})
    class_tree(tmp_path / "val", {"a": 1, "z": 1})
    with pytest.raises(ValueError, match=r"classes that .*train has not: z.*Rename"):
        open_source(tmp_path, "val", labeled=True)
    assert open_source(tmp_path, "val").labels is None


def test_any_tree_is_training_images_when_no_labels_are_wanted(tmp_path):
    for name in ("x.JPG", "deep/er/y.Png", "deep/z.webp"):
        save(tmp_path / name, photo())
    for name in (".hidden.png", ".cache/w.png"):
        save(tmp_path / name, photo())
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(tmp_path, "train")
    names = [str(Path(path).relative_to(tmp_path)) for path in paths(source)]
    assert names == ["deep/er/y.Png", "deep/z.webp", "x.JPG"]
    assert source.labels is None and source.classes is None


def test_one_folder_of_images_is_not_taken_for_a_class(tmp_path):
    class_tree(tmp_path, {"images": 3})
    assert open_source(tmp_path, "train").labels is None
    with pytest.raises(ValueError, match=r"images/ is the only class folder; expected two or more"):
        open_source(tmp_path, "train", labeled=True)


def test_image_outside_the_class_folders_is_named_where_labels_are_wanted(tmp_path):
    class_tree(tmp_path, {"a": 1, "b": 1})
    save(tmp_path / "preview.png", photo())
    with pytest.raises(ValueError, match=r"preview\.png is in no class folder.*Sort the images"):
        open_source(tmp_path, "train", labeled=True)
    assert len(open_source(tmp_path, "train")) == 3


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    elsewhere = class_tree(tmp_path / "elsewhere", {"b": 2})
    data = class_tree(tmp_path / "data", {"a": 1})
    (data / "b").symlink_to(elsewhere / "b")
    (data / "a" / "loop").symlink_to(data)
    assert open_source(data, "train", labeled=True).labels.tolist() == [0, 1, 1]


def test_two_folders_that_link_to_each_other_are_read_once_from_each(tmp_path):
    class_tree(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    names = [Path(path).relative_to(tmp_path) for path in paths(open_source(tmp_path, "train"))]
    assert [str(name) for name in names] == ["a/0.png", "a/to_b/0.png", "b/0.png", "b/to_a/0.png"]


def test_link_to_a_sibling_with_a_longer_name_is_no_circle(tmp_path):
    class_tree(tmp_path / "data", {"ab": 1})
    class_tree(tmp_path / "data", {"a": 2})
    (tmp_path / "data" / "ab" / "more").symlink_to(tmp_path / "data" / "a")
    assert len(open_source(tmp_path / "data", "train")) == 5


def test_paths_of_any_bytes_are_read(tmp_path):
    save(tmp_path / "größe 図.png", photo())
    assert open_source(tmp_path, "train").read(0).size == (48, 40)


def test_folder_source_survives_pickling_for_spawned_workers(tmp_path):
    class_tree(tmp_path, {"a": 2, "b": 1})
    source = open_source(tmp_path, "train")
    assert paths(pickle.loads(pickle.dumps(source))) == paths(source)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no such file or folder: check the path$"):
        open_source(tmp_path / "nowhere", "train")


def test_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "notes.doc").write_text("nothing here")
    with pytest.raises(ValueError, match=r"it is a file of an unknown kind; expected a folder"):
        open_source(tmp_path / "notes.doc", "train")


def test_one_image_is_no_data_and_the_message_says_what_is(tmp_path: Path) -> None:
    save(tmp_path / "a.PNG", photo(0))
    with pytest.raises(ValueError, match=r"it is one image; expected several: .*or a list"):
        open_source(tmp_path / "a.PNG", "train")


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(ValueError, match="without images; expected files such as"):
        open_source(tmp_path, "train")


def test_a_folder_that_holds_lists_of_images_says_to_name_one(tmp_path):
    for name in ("train.txt", "val.txt"):
        (tmp_path / name).write_text("a/0.png\n")
    said = f"without images; .* It holds lists of images: name {tmp_path}/train.txt \\(skipped: 2"
    with pytest.raises(ValueError, match=said):
        open_source(tmp_path, "train")


def test_missing_validation_folder_is_refused(tmp_path):
    class_tree(tmp_path / "train", {"a": 1, "b": 1})
    with pytest.raises(ValueError, match=r"no validation images; expected .*val, valid"):
        open_source(tmp_path, "val")


def test_validation_folder_alone_is_not_trained_on(tmp_path):
    class_tree(tmp_path / "val", {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="val/ without train/"):
        open_source(tmp_path, "train")


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match='expected "train" or "val"'):
        open_source(None, "test")


# arrays and subsets


def test_subset_is_a_fixed_choice_in_source_order():
    source = ArraySource(np.arange(50, dtype=np.uint8).repeat(4).reshape(50, 2, 2), np.arange(50))
    chosen = subset(source, 10, seed=3)
    assert len(chosen) == 10 and chosen.in_memory
    assert chosen.labels.tolist() == sorted(set(chosen.labels.tolist()))
    assert chosen.labels.tolist() == subset(source, 10, seed=3).labels.tolist()
    assert chosen.labels.tolist() != subset(source, 10, seed=4).labels.tolist()
    for i, label in enumerate(chosen.labels):
        assert chosen.read(i).getpixel((0, 0)) == (label,) * 3
        assert chosen.describe(i) == source.describe(label)


def test_subset_of_everything_is_the_source():
    source = open_source(None, "val")
    assert subset(source, 1000) is source and subset(source, 5000) is source


def test_empty_subset_is_refused():
    with pytest.raises(ValueError, match="subset of 0 images"):
        subset(open_source(None, "val"), 0)


@pytest.mark.parametrize("array", [np.zeros((2, 4, 4)), np.zeros((2, 3, 4, 4), dtype=np.uint8)])
def test_array_of_another_type_or_shape_is_refused(array):
    with pytest.raises(ValueError, match=r"expected uint8 \(N, H, W\)"):
        ArraySource(array)


def test_a_path_may_be_text_and_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    class_tree(tmp_path / "images", {"a": 2, "b": 2})
    assert len(open_source(str(tmp_path / "images"), "train")) == 4
    (tmp_path / "images.rar").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"it is a file .*unpack an archive"):
        open_source(tmp_path / "images.rar", "train")


def test_data_of_two_kinds_in_one_folder_is_refused(tmp_path: Path) -> None:
    idx_folder(tmp_path)
    write_tar(tmp_path / "0.tar", [("0.png", png(photo()))])
    with pytest.raises(ValueError, match=r"IDX files .* and a folder of tar shards; expected one"):
        open_source(tmp_path, "train")


def test_every_kind_of_data_is_a_module_that_says_what_it_is() -> None:
    """A new kind is a file beside the others; no list of them is kept anywhere."""
    found = readers()
    files = {path.stem for path in Path(package).parent.glob("[!_]*.py")}
    assert set(found) == files and list(found)[-1] == "folder"
    assert all(reader.what for reader in found.values())
