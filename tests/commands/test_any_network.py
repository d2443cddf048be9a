"""Any teacher, any student: an epoch of the default method; recipes/networks.py runs all pairs."""

import signal
from pathlib import Path

import pytest
import torch
from image_files import class_tree
from tiny_runs import arguments, read_last, read_rows, stop_at
from tiny_runs import write_teacher as write_thin

from mgd_ssl.commands import pretrain
from mgd_ssl.models import create_backbone, load_backbone

PAIRS = [
    ("resnet18", "vit_tiny_patch16_224", {"tokens"}),
    ("mobilenet_v2", "convnext_atto", {"layer1", "layer2", "layer3", "layer4"}),
    ("tf_efficientnet_lite0", "resnet18", {"layer1", "layer2", "layer3", "layer4"}),
    ("convnext_atto", "mobilenetv3_small_050", {"layer1", "layer2", "layer3", "layer4"}),
    ("regnety_002", "tf_efficientnet_lite0", {"layer1", "layer2", "layer3", "layer4"}),
    ("mobilenetv3_small_050", "regnety_002", {"layer1", "layer2", "layer3", "layer4"}),
    ("vit_tiny_patch16_224", "mobilenet_v2", {"layer2", "layer3", "layer4"}),
    ("vit_small_patch14_reg4_dinov2", "shufflenet_v2_x1_0", {"layer2", "layer3", "layer4"}),
]
RUN = ["--size", "64", "--epochs", "1", "-b", "8", "-j", "0", "--knn-every", "0"]
RUN += ["--health-every", "0", "--mgd-update-images", "8"]


def write_teacher(path: Path, arch: str) -> Path:
    torch.manual_seed(0)
    torch.save({"arch": arch, "state_dict": create_backbone(arch).state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("images") / "d", {"a": 8, "b": 8})


@pytest.mark.parametrize(("teacher", "student", "stages"), PAIRS)
def test_a_student_of_any_kind_learns_from_a_teacher_of_any_kind(
    tmp_path: Path, images: Path, teacher: str, student: str, stages: set[str]
) -> None:
    file = write_teacher(tmp_path / "teacher.pt", teacher)
    size = ["--teacher-size", "70"] if "patch14" in teacher else []
    argv = [str(images), "--teacher", str(file), "-a", student, *RUN, *size]
    assert pretrain.main([*argv, "--out", str(tmp_path / "run")]) == 0
    row = read_rows(tmp_path / "run")[-1]
    matched = {k.removeprefix("train_loss/matching/") for k in row if "/matching/" in k}
    assert matched == stages and "train_loss/regression" in row
    _, report = load_backbone(tmp_path / "run" / "student.safetensors")
    assert report.spec.arch == student and report.missing == []


def test_measured_statistics_are_kept_by_a_resumed_run(tmp_path: Path, images: Path) -> None:
    file = write_teacher(tmp_path / "teacher.pt", "convnext_atto")
    argv = [str(images), "--teacher", str(file), "--width", "0.25", *RUN, "--seed", "3"]
    argv[argv.index("--epochs") + 1] = "2"
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert pretrain.main([*argv, "--out", str(whole)]) == 0
    with pytest.MonkeyPatch.context() as patched:
        stop_at(3, patched)  # of four steps
        assert pretrain.main([*argv, "--out", str(run)]) == 128 + signal.SIGTERM
    assert pretrain.main([*argv, "--out", str(run), "--resume"]) == 0
    left, right = (read_last(path)["distiller"] for path in (run, whole))
    assert {k for k in left if ".std_" in k} == {f"targets.std_layer{i}" for i in range(1, 5)}
    for name, value in left.items():
        same = torch.equal(value, right[name]) if torch.is_tensor(value) else value == right[name]
        assert same, name


@pytest.mark.parametrize(
    "more",
    [
        ["--width", "0.25"],  # wider than its teacher
        ["--stem-stride", "1"],  # twice its sides
        ["--taps", "a=layer1", "b=layer2", "--teacher-taps", "a=layer1", "b=layer3"],
    ],
)
@pytest.mark.parametrize("method", ["mgd-plus", "mgd"])
def test_widths_and_sides_may_differ(tmp_path: Path, method: str, more: list[str]) -> None:
    thin = write_thin(tmp_path / "thin.pth.tar", width=0.125)
    argv = arguments(tmp_path / "run", thin, "--method", method, "--epochs", "1", *more)
    assert pretrain.main(argv) == 0
    row = read_rows(tmp_path / "run")[-1]
    matched = [value for key, value in row.items() if key.startswith("train_loss/matching/")]
    assert len(matched) == (2 if "--taps" in more else 4) and all(v > 0 for v in matched)
