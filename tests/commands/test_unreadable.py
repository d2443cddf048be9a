"""Images that cannot be decoded: every figure says over how many of how many it is."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_runs import STEM, STUDENT, arguments, read_rows

from mgd_ssl.commands import classify, knn_eval, linear_eval, pretrain
from mgd_ssl.models import create_backbone

EVALUATION = ["-j", "0", "--size", "32", "-b", "16"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """48 training images and 16 for validation of two classes; 6 and 3 of them are damaged."""
    for part, count, damaged in (("train", 24, 3), ("val", 8, 1)):
        for label, name in enumerate("ab"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                color = (200 * label, 5 * i, 90)
                Image.new("RGB", (40, 40), color).save(folder / f"{i:02}.png")
                if i < damaged + label * (part == "val"):
                    (folder / f"{i:02}.png").write_bytes(b"junk")
    return tmp_path / "data"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = create_backbone("resnet18", width=0.125, **STEM)
    torch.save(network.state_dict(), tmp_path / "network.pt")
    return tmp_path / "network.pt"


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (knn_eval, ["--knn-k", "1"]),
        (linear_eval, ["--epochs", "2"]),
        (linear_eval, ["--protocol", "moco", "--epochs", "2", "--lr", "0.1"]),
    ],
)
def test_evaluators_say_how_many_images_a_figure_is_over(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], command: object, more: list
) -> None:
    out = checkpoint.with_name("result.json")
    argv = [str(checkpoint), str(data), *EVALUATION, *more, "--stem-stride", "2"]
    assert command.main([*argv, "--out", str(out)]) == 0  # type: ignore[attr-defined]
    result = json.loads(out.read_text())
    assert (result["train_images"], result["train_unreadable"]) == (42, 6)
    assert (result["val_images"], result["val_unreadable"]) == (13, 3)
    said = capsys.readouterr()
    assert "a/00.png (no image of a known format)" in said.err
    assert f"data: {data}/train (48 images, 2 classes): 48 for" in said.err
    assert "42 of 48 train and 13 of 16 val images" in " ".join(said.out.split())


def test_a_run_says_how_many_images_its_figures_are_over(data: Path, tmp_path: Path) -> None:
    run, given = tmp_path / "run", ["--bad-images", "0.2", "-j", "0"]
    options = ["-b", "16", "--epochs", "1", "--size", "32", *STUDENT]
    assert classify.main([str(data), *options, *given, "--out", str(run)]) == 0
    row = read_rows(run)[-1]
    assert (row["val_images"], row["val_unreadable"]) == (13, 3)
    log = (run / "train.log").read_text()
    assert "cannot be decoded, left out" in log and "cannot be decoded, replaced" in log
    more = ["--epochs", "1", "--knn-every", "1", *given]  # k: all of the bank
    assert pretrain.main([str(data), *arguments(tmp_path / "moco", None, *more)]) == 0
    row = read_rows(tmp_path / "moco")[-1]
    assert (row["bank_images"], row["bank_unreadable"]) == (42, 6)
    assert (row["val_images"], row["val_unreadable"]) == (13, 3)


def test_large_images_are_named_in_a_line_and_the_option_reaches_the_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for i in range(48):
        side = 50 if i == 7 else 40
        Image.new("RGB", (side, side), (i, 100, 200)).save(tmp_path / "data" / f"{i:02}.png")
    given = ["--health-every", "0", "--epochs", "1", "--bad-images", "1"]
    argv = [str(tmp_path / "data"), *arguments(tmp_path / "run", None, *given)]
    for limit, found in (("2000", 1), ("2500", 0)):
        assert pretrain.main([*argv, "-j", "1", "--max-pixels", limit, "--overwrite"]) == 0
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if "07.png" in line]
        assert len(lines) == found and "DecompressionBomb" not in said
        assert all("50x50" in line and "--max-pixels 2500" in line for line in lines)


def test_names_that_are_not_utf_8_pass_through_a_run_and_its_files(
    tmp_path: Path, checkpoint: Path
) -> None:
    data = os.fsencode(tmp_path) + b"/d\xe9"
    for part in (b"train", b"val"):
        for label, name in enumerate((b"caf\xe9", b"tee")):
            os.makedirs(data + b"/" + part + b"/" + name)
            for i in range(12):
                path = data + b"/" + part + b"/" + name + b"/\xff%d.png" % i
                Image.new("RGB", (40, 40), (200 * label, 5 * i, 90)).save(os.fsdecode(path))
    open(data + b"/train/tee/\xfe.png", "wb").close()
    folder, run, out = os.fsdecode(data), tmp_path / "run", tmp_path / "knn.json"
    options = ["-b", "12", "--epochs", "1", "--size", "32", *STUDENT, "--bad-images", "0.5"]
    assert classify.main([folder, *options, "-j", "0", "--out", str(run)]) == 0
    assert "(empty file)" in (run / "train.log").read_text(errors="replace")
    given = [*EVALUATION, "--knn-k", "1", "--stem-stride", "2", "--out", str(out)]
    assert knn_eval.main([str(checkpoint), folder, *given]) == 0
    assert json.loads(out.read_text())["data"] == folder
