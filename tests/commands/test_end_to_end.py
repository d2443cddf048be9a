"""One run from images to figures: distil, evaluate, and use the result as a teacher."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from tiny_runs import arguments, read_last, read_rows

from mgd_ssl.commands import knn_eval, linear_eval, pretrain
from mgd_ssl.models import load_backbone

EVALUATION = ["--limit", "60", "--limit-val", "30", "-b", "30"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "student"
    options = ["--knn-every", "1", "--knn-bank", "100", "--warmup-epochs", "1"]
    assert pretrain.main(arguments(out, teacher, *options)) == 0
    return out


def test_a_run_leaves_what_its_directory_promises(run: Path) -> None:
    present = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert present >= {
        "config.yaml",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "student.safetensors",
        "metrics.jsonl",
        "train.log",
        "matching/epoch_0001.npz",
        "matching/epoch_0002.npz",
    }
    assert any(name.startswith("events.out.tfevents") for name in present)
    assert "epoch 2/2 done" in (run / "train.log").read_text()


def test_metrics_hold_each_loss_and_the_knn_figure(run: Path) -> None:
    rows = [row for row in read_rows(run) if "train_loss" in row]
    assert [row["step"] for row in rows] == [4, 8]
    for row in rows:
        parts = {k: v for k, v in row.items() if k.startswith("train_loss/")}
        stages = {f"train_loss/matching/layer{i}" for i in range(1, 5)}
        assert set(parts) == {"train_loss/contrastive"} | stages
        assert row["train_loss"] == pytest.approx(sum(parts.values()))
        assert 0 <= row["val_knn_top1"] <= 100
        assert row["val_knn_top1_percent_of_teacher"] > 0
        assert row["health/effective_rank"] > 1 and row["health/deviation"] > 0
        assert 0 <= row["health/neighbor_overlap"] <= 1 and 0 <= row["health/cka"] <= 1


def test_a_rate_and_a_weight_decay_that_were_found_are_recorded(
    tmp_path: Path, teacher: Path
) -> None:
    """The rate rises for a tenth of the four steps, and falls as a cosine."""
    run = tmp_path / "run"
    words = ["--lr", "0", "--epochs", "1", "--optimizer", "muon"]
    assert pretrain.main(arguments(run, teacher, *words)) == 0
    found, *_, last = read_rows(run)
    decays = [group["weight_decay"] for group in read_last(run)["optimizer"]["param_groups"]]
    assert found["step"] == 0 and decays == 2 * [found["found/weight_decay"]]
    assert decays[0] > 0
    falling = (1 + np.cos(np.pi * (3 / 4 - 0.1) / 0.9)) / 2
    assert last["lr"] == pytest.approx(found["found/lr"] * falling)


def test_the_matching_of_every_solve_is_kept_and_balanced(run: Path) -> None:
    with np.load(run / "matching" / "epoch_0001.npz") as arrays:
        cost, assignment = arrays["layer1/cost"], arrays["layer1/assignment"]
    assert cost.shape == (8, 16) and assignment.shape == (8, 2)
    assert sorted(assignment.flatten().tolist()) == list(range(16))


def test_the_students_keys_are_torchvisions(run: Path) -> None:
    expected = torchvision.models.resnet18(weights=None).state_dict()
    backbone = {k for k in expected if not k.startswith("fc.")}
    assert set(load_file(run / "student.safetensors")) == backbone


def test_the_exported_student_is_the_checkpoints(run: Path) -> None:
    exported, report = load_backbone(run / "student.safetensors")
    network, _ = load_backbone(run / "checkpoints" / "last.pt")
    assert report.spec.width == 0.125 and report.size == 32
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(exported(images), network(images))


def test_a_runs_config_can_be_given_again(run: Path, tmp_path: Path) -> None:
    options = ["--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]
    assert pretrain.main(options) == 0
    first, second = read_last(run), read_last(tmp_path / "again")
    assert second["config"] == first["config"] | {"out": str(tmp_path / "again")}
    assert all(torch.equal(v, second["state_dict"][k]) for k, v in first["state_dict"].items())


def test_knn_eval_writes_figures_and_a_picture(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "knn.json"
    options = [*EVALUATION, "--retrieve", "2", "--knn-k", "1", "5", "--out", str(out)]
    assert knn_eval.main([str(run / "checkpoints" / "last.pt"), *options]) == 0
    result = json.loads(out.read_text())
    assert {(row["k"], row["temperature"]) for row in result["knn"]} == {
        (1, 0.1),
        (1, 0.07),
        (5, 0.1),
        (5, 0.07),
    }
    assert result["layout"] == "moco" and (result["train_images"], result["val_images"]) == (60, 30)
    assert all(0 <= value <= 100 for value in result["retrieval"].values())
    with Image.open(out.with_suffix(".png")) as picture:
        assert min(picture.size) > 32


@pytest.mark.parametrize("protocol", ["cached", "moco"])
def test_linear_eval_writes_figures_with_their_protocol(
    run: Path, tmp_path: Path, protocol: str
) -> None:
    out, head = tmp_path / "linear.json", tmp_path / "head.pt"
    options = [*EVALUATION, "--protocol", protocol, "--epochs", "2", "--out", str(out)]
    if protocol == "moco":
        options += ["--save-head", str(head), "--schedule", "1", "--lr", "3000"]
    else:
        options += ["--learning-rates", "0.001"]  # 60 images and two epochs: any other may diverge
    assert linear_eval.main([str(run / "checkpoints" / "last.pt"), *options]) == 0
    result = json.loads(out.read_text())
    assert result["protocol"] == f"linear, {protocol}"
    assert result["epochs"] == 2 and result["seed"] == 0 and "learning_rate" in result
    assert 0 <= result["top1"] <= result["top5"] <= 100
    assert head.exists() == (protocol == "moco")
    doubts = [word.rpartition(" ")[2] for word in result.get("warnings", ())]
    assert doubts == (["--lr"] if protocol == "moco" else [])  # at a rate of 3000 it diverges


def test_plain_moco_trains_a_teacher_for_the_next_run(tmp_path: Path) -> None:
    width = ["--width", "0.25"]
    assert pretrain.main(arguments(tmp_path / "moco", None, *width)) == 0
    last = tmp_path / "moco" / "checkpoints" / "last.pt"
    _, report = load_backbone(last)
    assert report.layout == "moco" and report.unexpected == [] and report.spec.stem_stride == 2
    assert pretrain.main(arguments(tmp_path / "mgd", last, "--epochs", "1")) == 0
    best = last.with_name("best.pt")  # there is no teacher to agree with: the last epoch's
    assert torch.load(best, weights_only=True)["epoch"] == 2


def test_the_teacher_is_measured_at_its_own_size_as_the_evaluator_does(
    tmp_path: Path, teacher: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "knn.json"
    knn = ["--knn-every", "1", "--knn-bank", "100", "--knn-k", "10", "--knn-t", "0.1"]
    words = ["--teacher-size", "48", "--epochs", "1", *knn]
    assert pretrain.main(arguments(run, teacher, *words)) == 0
    bank = ["--size", "48", "--limit", "100", "--knn-k", "10", "--knn-t", "0.1"]
    assert knn_eval.main([str(teacher), *bank, "--out", str(out)]) == 0
    expected = json.loads(out.read_text())["knn"][0]["top1"]
    first, last = read_rows(run)[0], read_rows(run)[-1]
    assert first["teacher_knn_top1"] == pytest.approx(expected, abs=0.01)
    share = 100 * last["val_knn_top1"] / expected
    assert last["val_knn_top1_percent_of_teacher"] == pytest.approx(share, rel=1e-3)
