"""The two commands that users of DINOv2 and DINOv3 type, with teachers of the published sizes.

The weights are random; images are small and few, and so are the students' channels.
"""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import photo, save
from official_files import dinov2_shapes, dinov3_state, random_state
from tiny_runs import read_last, read_rows, stop_at

from mgd_ssl.commands import pretrain
from mgd_ssl.models import load_backbone

pytest.importorskip("timm")
FEW = ["-b", "4", "-j", "0", "--epochs", "2"]


def write_dinov2(folder: Path) -> Path:
    path = folder / "dinov2_vits14_pretrain.pth"
    torch.save(random_state(dinov2_shapes(384, 12, side=37)), path)
    return path


def write_dinov3(folder: Path) -> Path:
    path = folder / "dinov3_vits16_pretrain_lvd1689m-08c60483.pth"
    torch.save(dinov3_state(384, 12, heads=6), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images without labels, 4 of which a run holds out."""
    root = tmp_path_factory.mktemp("images")
    for i in range(12):
        save(root / f"{i}.png", photo(i))
    return root


def same(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(v, right[k]) for k, v in left.items())
    return torch.equal(left, right) if torch.is_tensor(left) else left == right


@pytest.mark.parametrize(
    ("write", "size", "student", "teacher"),
    [
        (write_dinov2, "56", "resnet18 --width 0.25", "timm/vit_small_patch14_dinov2"),
        (write_dinov3, "64", "mobilenetv3_small_050", "timm/vit_small_patch16_dinov3_qkvb"),
    ],
    ids=["dinov2", "dinov3"],
)
def test_a_published_vit_teaches_and_a_resumed_run_ends_with_the_same_bits(
    folder: Path, tmp_path: Path, write: Any, size: str, student: str, teacher: str
) -> None:
    command = [str(folder), "--teacher", str(write(tmp_path)), "--size", size, *FEW]
    command += ["-a", *student.split()]
    assert pretrain.main([*command, "--out", str(tmp_path / "whole")]) == 0
    with pytest.MonkeyPatch.context() as patched:
        stop_at(3, patched)  # of four steps
        status = pretrain.main([*command, "--out", str(tmp_path / "run")])
    assert status == 128 + signal.SIGTERM
    assert pretrain.main([*command, "--out", str(tmp_path / "run"), "--resume"]) == 0
    whole, run = read_last(tmp_path / "whole"), read_last(tmp_path / "run")
    assert all(same(whole[name], run[name]) for name in ("state_dict", "distiller", "optimizer"))
    assert whole["provenance"]["teacher"]["network"]["arch"] == teacher
    _, report = load_backbone(tmp_path / "run" / "student.safetensors")
    assert report.spec.arch == student.split()[0] and not report.missing and not report.unexpected
    last = read_rows(tmp_path / "whole")[-1]
    assert {f"train_loss/matching/layer{i}" for i in (2, 3, 4)} <= last.keys()
