"""What is measured as training goes: fitted to the data at the start, and never an epoch's loss."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from image_files import class_tree
from tiny_runs import arguments, read_last, read_rows, stop_at

from mgd_ssl.commands import pretrain
from mgd_ssl.runs.pretrain import PretrainRun

Capture = pytest.CaptureFixture[str]
FLAGS = ["--limit", "32", "-j", "0", "--epochs", "1"]


def argv(folder: Path, run: Path, *more: str, every: str = "1") -> list[str]:
    """A run without a teacher that measures kNN accuracy."""
    return [str(folder), *arguments(run, None, *FLAGS, "--knn-every", every), *more]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    class_tree(tmp_path / "images" / "train", {"a": 18, "b": 18})
    class_tree(tmp_path / "images" / "val", {"a": 5, "b": 5})
    return tmp_path / "images"


def test_the_usual_k_is_made_to_fit_the_bank_and_said(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    assert pretrain.main(argv(folder, tmp_path / "run")) == 0
    assert "the bank holds 36 images, so that k is 36 and not 200" in capsys.readouterr().err
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["evaluation"]["knn_k"] == 36
    assert "val_knn_top1" in read_rows(tmp_path / "run")[-1]


def test_a_k_that_was_asked_for_and_does_not_fit_is_refused_before_anything(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    assert pretrain.main(argv(folder, tmp_path / "run", "--knn-k", "37")) == 1
    assert "knn_k: got 37 neighbors and a bank of 36" in (said := capsys.readouterr().err)
    assert "--knn-k 36" in said and not (tmp_path / "run").exists()
    assert pretrain.main(argv(folder, tmp_path / "run", "--knn-k", "36")) == 0


def test_a_single_validation_image_does_not_stop_a_run(tmp_path: Path, capsys: Capture) -> None:
    class_tree(tmp_path / "images" / "train", {"a": 18, "b": 18})
    class_tree(tmp_path / "images" / "val", {"a": 1})
    assert pretrain.main(argv(tmp_path / "images", tmp_path / "run")) == 0
    assert "val holds 1 images, and fewer than 8" in capsys.readouterr().err
    assert read_last(tmp_path / "run")["progress"]["epoch"] == 1


@pytest.mark.parametrize("error", [ValueError("k is wrong"), OSError("the drive is gone")])
def test_a_measurement_that_fails_costs_its_figures_alone(
    tmp_path: Path,
    folder: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: Any) -> dict[str, float]:
        raise error

    monkeypatch.setattr(PretrainRun, "measure", fail)
    assert pretrain.main(argv(folder, tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert f"could not be measured after epoch 1: {error}" in said
    assert read_last(tmp_path / "run")["progress"]["epoch"] == 1
    assert "train_loss" in read_rows(tmp_path / "run")[-1]


def test_a_student_that_is_not_finite_stops_the_run_and_is_not_saved(
    tmp_path: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PretrainRun.measure

    def measure(self: Any, epoch: int) -> dict[str, float]:
        with torch.no_grad():  # as the last step of an epoch may leave it, its loss being finite
            next(self.task.student.parameters()).fill_(math.nan)
        return original(self, epoch)

    monkeypatch.setattr(PretrainRun, "measure", measure)
    assert pretrain.main(argv(folder, tmp_path / "run")) == 1
    assert "features: not finite" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


FIGURES = {"health/neighbor_overlap": [0.2, 0.9, 0.5], "val_knn_top1": [60.0, 20.0, 50.0]}


@pytest.mark.parametrize(
    ("best", "epoch", "said"),
    [
        (
            [],
            2,
            "is chosen by agreement with the teacher on held-out images (health/neighbor",
        ),
        (["--best", "labels"], 1, "is chosen by labels: the kNN accuracy"),
        (["--best", "last"], 3, "is the last epoch's student; labels are read for kNN figures"),
    ],
)
def test_best_is_chosen_without_labels_unless_they_are_asked_for(
    tmp_path: Path,
    folder: Path,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    best: list[str],
    epoch: int,
    said: str,
) -> None:
    def measure(self: Any, epoch: int) -> dict[str, float]:
        return {name: values[epoch] for name, values in FIGURES.items()}

    class_tree(folder / "val", {"a": 8, "b": 8})
    monkeypatch.setattr(PretrainRun, "measure", measure)
    more = ["--limit", "32", "-j", "0", "--epochs", "3", "--method", "mgd-plus", "--knn-every", "1"]
    argv = [str(folder), *arguments(tmp_path / "run", teacher, *more), "--knn-k", "3", *best]
    assert pretrain.main(argv) == 0
    content = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert content["epoch"] == epoch
    assert f"best.pt {said}" in (tmp_path / "run" / "train.log").read_text()
    assert pretrain.main([*argv, "--resume"]) == 0  # at the end already
    content = read_last(tmp_path / "run")
    assert content["progress"]["best"] == {1: 60.0, 2: 0.9, 3: -math.inf}[epoch]


@pytest.mark.parametrize(("k", "epoch"), [("3", 1), ("5", 3)])
def test_figures_of_another_measurement_are_not_compared(
    tmp_path: Path,
    folder: Path,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    k: str,
    epoch: int,
) -> None:
    """A run that is stopped in its second epoch and goes on with another k."""
    class_tree(folder / "val", {"a": 8, "b": 8})
    top1 = FIGURES["val_knn_top1"]
    monkeypatch.setattr(PretrainRun, "measure", lambda self, epoch: {"val_knn_top1": top1[epoch]})
    more = ["--limit", "32", "-j", "0", "--epochs", "3", "--method", "mgd-plus", "--knn-every", "1"]
    argv = [str(folder), *arguments(tmp_path / "run", teacher, *more), "--best", "labels"]
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert pretrain.main([*argv, "--knn-k", "3"]) == 143
    assert pretrain.main([*argv, "--knn-k", k, "--resume"]) == 0
    content = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert content["epoch"] == epoch
    said = (tmp_path / "run" / "train.log").read_text()
    assert ("best.pt is chosen anew from here on: other --knn-k" in said) == (epoch == 3)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--best", "agreement"], "which needs a teacher and held-out images; give --teacher"),
        (["--best", "labels", "--knn-every", "0"], "best: got labels, and no kNN accuracy"),
    ],
)
def test_a_choice_that_is_not_measured_is_refused(
    tmp_path: Path, folder: Path, capsys: Capture, more: list[str], named: str
) -> None:
    assert pretrain.main([str(folder), *arguments(tmp_path / "run", None, *FLAGS, *more)]) == 1
    assert named in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rate", "alarmed"), [("1e-30", True), ("0.02", False)])
def test_a_student_that_does_not_move_is_an_alarm(
    tmp_path: Path, folder: Path, capsys: Capture, rate: str, alarmed: bool
) -> None:
    argv = arguments(tmp_path / "run", None, *FLAGS, "--lr", rate)
    assert pretrain.main([str(folder), *argv]) == 0
    said = capsys.readouterr().err
    assert ("the student's weights have not moved" in said) == alarmed
    assert "whatever the images" not in said


def test_a_loss_that_does_not_change_is_an_alarm(
    tmp_path: Path, folder: Path, teacher: Path, capsys: Capture
) -> None:
    argv = arguments(tmp_path / "run", teacher, "--limit", "32", "-j", "0", "--method", "simreg")
    factor = ["--objective-weight", "1e-50"]  # in float32 it is 0
    assert pretrain.main([str(folder), *argv, *factor]) == 0
    assert "the loss has been 0 for 3 steps, whatever the images" in capsys.readouterr().err
