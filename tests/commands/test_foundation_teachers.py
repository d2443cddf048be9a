"""A run takes a file that a foundation model's authors publish, and its student says which."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import class_tree
from official_files import dinov2_shapes, random_state, text_tower, vit_shapes
from safetensors import safe_open
from tiny_runs import STUDENT, read_rows
from torch.nn import functional as F

from mgd_ssl.commands import knn_eval, linear_eval, pretrain
from mgd_ssl.data import Normalize, make_loader, open_source
from mgd_ssl.models import load_backbone, pool

pytest.importorskip("timm")
Capture = pytest.CaptureFixture[str]
RUN = ["--method", "simreg", "-b", "4", "--knn-every", "0", "--health-every", "0", "-j", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    class_tree(root / "train", {"a": 6, "b": 6})
    class_tree(root / "val", {"a": 2, "b": 2})
    return root


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "dinov2_vits14_pretrain.pth"
    torch.save(random_state(dinov2_shapes(128, 2, side=4)), path)
    return path


def run(folder: Path, teacher: Path, out: Path, *more: str) -> int:
    argv = [str(folder), "--teacher", str(teacher), "--out", str(out), *STUDENT, *RUN]
    return pretrain.main([*argv, "--size", "28", *more])


def test_a_student_learns_from_the_file_and_carries_its_provenance(
    folder: Path, dinov2: Path, tmp_path: Path
) -> None:
    assert run(folder, dinov2, tmp_path / "run", "--epochs", "1") == 0
    assert all("train_loss/regression" in row for row in read_rows(tmp_path / "run")[1:])
    with safe_open(tmp_path / "run" / "student.safetensors", "pt") as file:
        said = json.loads(file.metadata()["provenance"])["teacher"]
    digest = hashlib.sha256(dinov2.read_bytes()).hexdigest()
    assert said["source"] == dinov2.name and said["sha256"] == {dinov2.name: digest}
    assert said["network"]["arch"] == "timm/vit_small_patch14_dinov2"
    assert said["license"] == "Apache-2.0" and "Meta publishes" in said["license_of"]
    _, report = load_backbone(tmp_path / "run")
    assert report.learned_from == {"teacher": said}
    assert report.terms is None  # the student's own license is for its makers to say


def test_a_run_that_goes_on_ends_with_the_bits_of_one_that_was_not_stopped(
    folder: Path, dinov2: Path, tmp_path: Path
) -> None:
    assert run(folder, dinov2, tmp_path / "whole", "--epochs", "2") == 0
    assert run(folder, dinov2, tmp_path / "parts", "--epochs", "2", "--save-every", "1") == 0
    (tmp_path / "parts" / "student.safetensors").unlink()
    assert run(folder, dinov2, tmp_path / "parts", "--epochs", "2", "--resume") == 0
    whole, parts = (load_backbone(tmp_path / name)[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize(("size", "nearest"), [("8", "14"), ("40", "42"), ("64", "70")])
def test_a_size_that_the_patches_do_not_divide_is_answered_with_the_nearest(
    folder: Path, dinov2: Path, tmp_path: Path, capsys: Capture, size: str, nearest: str
) -> None:
    students = ["--size", size, "--teacher-size", "0"]
    assert run(folder, dinov2, tmp_path / "run", "--epochs", "1", *students) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"teacher_size: DinoV2Transformer takes no images of {size} pixels" in said
    assert f"a multiple of its patches' 14 pixels: --teacher-size {nearest}" in said
    assert not (tmp_path / "run").exists()
    given = ["--epochs", "1", "--size", "32", "--teacher-size", size]
    assert run(folder, dinov2, tmp_path / "run", *given) != 0
    assert f"--teacher-size {nearest}" in capsys.readouterr().err
    assert knn_eval.main([str(dinov2), str(folder), "--size", size]) != 0
    assert f"pixels: --size {nearest}" in capsys.readouterr().err
    start = ["--student-weights", str(dinov2), "--size", size, "--out", str(tmp_path)]
    assert pretrain.main([str(folder), *RUN, "--method", "simsiam", *start]) != 0
    assert f"pixels: --size {nearest}" in capsys.readouterr().err


def test_a_teacher_of_another_side_is_measured_at_its_own(
    folder: Path, dinov2: Path, tmp_path: Path
) -> None:
    given = ["--size", "32", "--teacher-size", "28", "--knn-every", "1", "--health-every", "1"]
    assert run(folder, dinov2, tmp_path / "run", "--epochs", "1", *given, "--knn-k", "1") == 0
    network, report = load_backbone(dinov2)
    sides = [F.interpolate(x, (28, 28), mode="bicubic", antialias=True) for x in photos(folder)]
    normalize = Normalize(report.mean, report.std)
    with torch.no_grad():
        bank, val = (pool(network(normalize(images.clamp(0, 1)))) for images in sides)
    nearest = (F.normalize(val) @ F.normalize(bank).T).argmax(1)
    right = (nearest // 6 == torch.arange(4) // 2).double().mean()  # 6 and 2 images a class
    logged = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert logged["teacher_knn_top1"] == pytest.approx(100 * right)


def photos(folder: Path) -> Iterator[torch.Tensor]:
    """Images of train and of val, at 32 pixels in [0,1]."""
    for split in ("train", "val"):
        source = open_source(folder, split)
        batch = next(iter(make_loader(source, 32, len(source), train=False)))
        yield batch.images.float() / 255


def test_the_file_is_evaluated_as_it_is(folder: Path, dinov2: Path, tmp_path: Path) -> None:
    out = tmp_path / "knn.json"
    argv = [str(dinov2), str(folder), "--size", "28", "--knn-k", "3", "--out", str(out)]
    assert knn_eval.main(argv) == 0
    assert json.loads(out.read_text())["network"]["arch"] == "timm/vit_small_patch14_dinov2"


def adapters() -> dict[str, torch.Tensor]:
    """PEFT's adapter_model of a ViT."""
    name = "base_model.model.blocks.0.attn.qkv"
    return {f"{name}.lora_{part}.weight": torch.rand(8, 8) for part in "AB"}


def detector() -> dict[str, torch.Tensor]:
    """A ViT under the names of Detectron2's detectors."""
    vit = random_state(vit_shapes(128, 2, side=4))
    heads = {"roi_heads.box_head.fc1.weight": torch.rand(8, 8)}
    return {f"backbone.net.{key}": value for key, value in vit.items()} | heads


@pytest.mark.parametrize(
    ("make", "held", "remedy"),
    [
        (text_tower, "a text tower, expected one of images", "holds the image tower"),
        (adapters, "adapters (LoRA) and not the network", "merge_and_unload()"),
        (detector, "a detector, expected a classifier", "the weights that it was trained from"),
    ],
)
def test_a_file_without_an_image_network_is_refused_wherever_it_is_named(
    folder: Path, tmp_path: Path, capsys: Capture, make: Any, held: str, remedy: str
) -> None:
    path, out = tmp_path / "weights.pth", ["--out", str(tmp_path / "out")]
    torch.save(make(), path)
    start = [*RUN, "--method", "simsiam", "--student-weights", str(path)]
    for command, argv in (
        (pretrain, [str(folder), *RUN, *STUDENT, "--teacher", str(path), *out]),
        (pretrain, [str(folder), *start, *out]),
        (knn_eval, [str(path), str(folder), *out]),
        (linear_eval, [str(path), str(folder), *out]),
    ):
        assert command.main(argv) != 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"{path} holds {held}" in said and remedy in said
        assert not (tmp_path / "out").exists()
