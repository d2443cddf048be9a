"""Images of several places are one data set; the order by blocks is kept when a run is resumed."""

import json
from pathlib import Path

import pytest
import yaml
from forked import killed_in_step
from image_files import class_tree
from test_resume import assert_same_end, differences
from tiny_runs import arguments, read_last

from mgd_ssl.commands import classify, duplicates, knn_eval, linear_eval, pack, pretrain
from mgd_ssl.data import open_source, open_sources

RUN = ("--epochs", "2", "--save-every", "1", "-p", "1", "--knn-every", "1", "--knn-k", "3")
RUN = (*RUN, "--limit", "48", "--shuffle-blocks", "3")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("places")
    class_tree(root / "a" / "train", {"cat": 16, "dog": 10})
    class_tree(root / "b" / "train", {"ant": 14, "cat": 12})
    class_tree(root / "b" / "val", {"ant": 4, "cat": 4})
    return [root / "a", root / "b"]


def command(data: list[Path], run: Path, teacher: Path, *more: str) -> list[str]:
    return [*map(str, data), *arguments(run, teacher, *RUN, *more)]


@pytest.fixture(scope="module")
def from_both(tmp_path_factory: pytest.TempPathFactory, places: list[Path], teacher: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "both"
    assert pretrain.main(command(places, run, teacher)) == 0
    return run


def test_a_run_on_two_folders_is_that_on_the_list_of_their_images(
    tmp_path: Path, places: list[Path], teacher: Path, from_both: Path
) -> None:
    for split in ("train", "val"):
        files = [f for place in places for f in sorted((place / split).rglob("*.png"))]
        text = "".join(f"{file}\t{file.parent.name}\n" for file in files)
        (tmp_path / f"{split}.txt").write_text(text)
    run = tmp_path / "run"
    assert pretrain.main(command([tmp_path / "train.txt"], run, teacher, "-j", "1")) == 0
    assert differences(*map(_without_names, (run, from_both))) == []


def _without_names(run: Path) -> dict[str, object]:
    return {k: v for k, v in read_last(run).items() if k not in ("config", "data")}


def test_a_killed_run_on_two_folders_resumes_to_the_same_bits(
    tmp_path: Path, places: list[Path], teacher: Path, from_both: Path
) -> None:
    run = tmp_path / "run"
    killed_in_step(5, "pretrain", command(places, run, teacher))
    assert pretrain.main(["--config", str(run / "config.yaml"), "--resume"]) == 0
    assert_same_end(run, from_both)


def test_the_settings_keep_every_place(places: list[Path], from_both: Path) -> None:
    settings = yaml.safe_load((from_both / "config.yaml").read_text())
    assert settings["data"] == [str(place) for place in places]
    assert settings["loader"]["shuffle_blocks"] == 3
    log = (from_both / "train.log").read_text()
    assert f"{places[0]}/train (26 images, 2 classes) + {places[1]}/train (26 images, " in log


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shuffle-blocks", "4"], "--shuffle-blocks: 3 in the checkpoint, 4 now"),
        (["first"], "DATA: 48 images in the checkpoint, 26 now"),
        (["other order"], "48 training images as in the checkpoint, but of other names"),
    ],
)
def test_other_places_or_another_order_are_no_continuation(
    places: list[Path],
    teacher: Path,
    from_both: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    said: str,
) -> None:
    data = {"first": places[:1], "other order": places[::-1]}.get(more[0], places)
    options = more if more[0].startswith("-") else []
    before = read_last(from_both)
    assert pretrain.main(command(data, from_both, teacher, "--resume", *options)) == 1
    assert said in capsys.readouterr().err
    assert differences(read_last(from_both), before) == []


def test_a_dry_run_knows_all_places(
    tmp_path: Path, places: list[Path], teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(command(places, tmp_path / "run", teacher, "--dry-run")) == 0
    assert "together 52 images, 3 classes: 48 for training" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_evaluators_and_packing_take_several_places(
    tmp_path: Path, places: list[Path], from_both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = [*map(str, places)], str(tmp_path / "knn.json")
    assert knn_eval.main([str(from_both), *words, "--knn-k", "1", "--out", out]) == 0
    result = json.loads(Path(out).read_text())
    assert (result["train_images"], result["val_images"]) == (52, 8)
    assert result["data"] == " + ".join(words)
    assert pack.main([*words, "--out", str(tmp_path / "shards")]) == 0
    packed, source = open_source(tmp_path / "shards", "train"), open_sources(places, "train")
    assert packed.classes == source.classes and packed.labels is not None
    assert packed.labels.tolist() == source.labels.tolist()  # type: ignore[union-attr]
    assert [packed.encoded(i) for i in range(52)] == [source.encoded(i) for i in range(52)]
    assert duplicates.main([*words, "--near", "-1"]) == 0
    assert "8 of 8 validation images are training images too" in capsys.readouterr().err


def test_a_classifier_is_trained_on_the_classes_of_all_places(
    tmp_path: Path, places: list[Path]
) -> None:
    run = tmp_path / "run"
    words = ["-a", "resnet18", "--width", "0.125", "--size", "32", "-b", "16", "--epochs", "1"]
    assert classify.main([*map(str, places), *words, "--out", str(run)]) == 0
    assert read_last(run)["classes"] == ["ant", "cat", "dog"]


def test_a_place_without_labels_is_named_where_labels_are_needed(
    tmp_path: Path,
    places: list[Path],
    from_both: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = class_tree(tmp_path / "plain", {"": 3})
    assert linear_eval.main([str(from_both), str(places[1]), str(plain)]) == 1
    said = capsys.readouterr().err
    assert f"{plain}: no labels" in said and "knn_eval.py CHECKPOINT DATA --retrieve" in said
