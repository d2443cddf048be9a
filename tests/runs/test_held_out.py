"""Which images the health figures are taken from, and that they are not trained on."""

import re
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import arguments, read_last

from mgd_ssl.commands import pretrain
from mgd_ssl.data import ImageSource, open_source
from mgd_ssl.runs.pretrain_evaluation import hold_out
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import LEAST_HEALTH_IMAGES, PretrainConfig


def images(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (40, 40), (i % 256, 100, 200)).save(folder / f"{i:03}.png")
    return folder


def paths(source: ImageSource) -> list[str]:
    return [source.describe(i) for i in range(len(source))]


def config(data: Path, **options: int) -> PretrainConfig:
    return complete(PretrainConfig, data=data, **options)


@pytest.mark.parametrize(
    ("count", "most", "kept_out"), [(240, 512, 12), (240, 9, 9), (40, 512, 8), (159, 512, 8)]
)
def test_without_a_val_part_a_twentieth_is_kept_out_of_training(
    tmp_path: Path, count: int, most: int, kept_out: int
) -> None:
    folder = images(tmp_path / "tree", count)
    source = open_source(folder, "train")
    train, held_out = hold_out(config(folder, health_images=most), source)
    assert held_out is not None and len(held_out) == kept_out
    assert sorted(paths(train) + paths(held_out)) == paths(source)
    again = hold_out(config(folder, health_images=most), source)[1]
    assert again is not None and paths(again) == paths(held_out)


@pytest.mark.parametrize("page", ["docs/data.md", "docs/guides/health.md"])
def test_pages_say_how_many_of_few_images_are_kept_out(page: str) -> None:
    text = " ".join((Path(__file__).parents[2] / page).read_text("utf-8").split())
    (said,) = re.findall(r"a twentieth of [a-z ]+\(at least (\d+)", text)
    assert int(said) == LEAST_HEALTH_IMAGES


def test_val_is_held_out_where_there_is_one(tmp_path: Path) -> None:
    images(tmp_path / "d" / "train", 40)
    val = images(tmp_path / "d" / "val", 12)
    source = open_source(tmp_path / "d", "train")
    train, held_out = hold_out(config(tmp_path / "d", health_images=8), source)
    assert train is source and held_out is not None and len(held_out) == 8
    assert all(Path(path).parent == val for path in paths(held_out))


def test_nothing_is_kept_out_where_health_is_not_measured_or_cannot_be(tmp_path: Path) -> None:
    folder = images(tmp_path / "tree", 40)
    source = open_source(folder, "train")
    assert hold_out(config(folder, health_every=0), source) == (source, None)
    few = images(tmp_path / "few", 39)
    source = open_source(few, "train")
    assert hold_out(config(few), source) == (source, None)


def test_a_run_says_what_it_keeps_out_and_has_the_steps_of_the_rest(tmp_path: Path) -> None:
    folder, run = images(tmp_path / "tree", 55), tmp_path / "run"  # three steps of all 55
    argv = [str(folder), *arguments(run, None, "--epochs", "1", "--limit", "100"), "-j", "0"]
    assert pretrain.main(argv) == 0
    assert "8 of 55 images are kept out of training" in (run / "train.log").read_text()
    assert read_last(run)["steps_per_epoch"] == 2


def test_a_run_is_not_resumed_with_other_images_kept_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = images(tmp_path / "tree", 56), tmp_path / "run"  # three steps of 56, or of 48

    def argv(*more: str) -> list[str]:
        return [str(folder), *arguments(run, None, "--epochs", "1", "-j", "0", *more)]

    assert pretrain.main(argv()) == 0
    assert pretrain.main(argv("--resume", "--health-every", "0")) == 1
    assert "DATA: 48 images in the checkpoint, 56 now" in capsys.readouterr().err
    assert pretrain.main(argv("--resume", "--health-every", "3")) == 0
