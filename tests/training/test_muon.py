"""Muon moves matrices along their orthogonalized momentum, and all else as AdamW does."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.models import create_backbone, create_classifier
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.stages import Stage
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.muon import COEFFICIENTS, ROUNDS, Muon, matrices_of, orthogonalized
from mgd_ssl.training.optimizer import build_optimizer

RATE, DECAY, STEPS = 0.02, 0.1, 4


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_singular_values_are_those_of_the_polynomial(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.norm(dim=1, keepdim=True)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        s = a * s + b * s**3 + c * s**5
    expected = (u * s[:, None]) @ vh
    torch.testing.assert_close(orthogonalized(matrices).double(), expected, atol=1e-4, rtol=1e-4)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert orthogonalized(torch.zeros(2, 3, 5)).abs().max() == 0


def test_matrices_move_as_torchs_muon_moves_them() -> None:
    torch.manual_seed(0)
    start = torch.randn(12, 30)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    first = Muon([ours], [], RATE, DECAY)
    twice = {"lr": 2 * RATE, "weight_decay": DECAY / 2}  # torch's update has a size of 0.2
    second = torch.optim.Muon([theirs], **twice, adjust_lr_fn="match_rms_adamw")
    for step in range(1, STEPS + 1):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
        moved, other = ours.detach() - start, theirs.detach() - start
        assert (moved - other).norm() < 0.02 * other.norm()  # torch's iterates in bfloat16
        assert other.norm() > step * RATE


def test_a_convolution_moves_as_its_matrix_and_keeps_its_layout() -> None:
    torch.manual_seed(0)
    conv = nn.Parameter(torch.randn(6, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    flat = nn.Parameter(conv.detach().flatten(1).clone())
    optimizers = Muon([conv], [], RATE, DECAY), Muon([flat], [], RATE, DECAY)
    for _ in range(STEPS):
        conv.grad = torch.randn(conv.shape)
        flat.grad = conv.grad.flatten(1).clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(conv.flatten(1), flat)
    assert conv.is_contiguous(memory_format=torch.channels_last)


def test_all_else_moves_as_by_adamw() -> None:
    torch.manual_seed(0)
    net, other = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    other.load_state_dict(net.state_dict())
    config = complete(PretrainConfig, data=Path("d"), method="moco", optimizer="muon", lr=RATE)
    optimizer = build_optimizer(config, Task(net, nn.Identity()), DECAY)
    rest = [p for p in other.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW(rest, RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.clone()
        optimizer.step()
        adamw.step()
    assert all(p.grad is not None for p in net.parameters())
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        if mine.ndim == 1:
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("arch", "left"),
    [
        ("resnet18", set[str]()),
        ("mobilenet_v3_small", {"depthwise"}),
        ("vit_tiny_patch16_224", {"cls_token", "pos_embed"}),
    ],
)
def test_matrices_are_of_layers_that_mix_all_channels(arch: str, left: set[str]) -> None:
    net = create_backbone(arch)
    found = {id(w) for w in matrices_of(net)}
    others = {n: p for n, p in net.named_parameters() if p.ndim > 1 and id(p) not in found}
    kinds = {"depthwise" if p.ndim == 4 and p.shape[1] == 1 else n for n, p in others.items()}
    assert kinds == left
    assert all(p.ndim > 1 for p in net.parameters() if id(p) in found)
    net.requires_grad_(False)
    assert matrices_of(net) == []


def test_heads_are_left_to_adamw_and_adapters_are_not() -> None:
    student = create_classifier(5, "resnet18", width=0.125)
    stage = Stage(0, "layer1", 4, 6)
    distiller = FeatureDistiller([stage], [torch.zeros(6)], adapter="expand")
    config = complete(PretrainConfig, data=Path("d"), method="moco")
    task = Task(student, nn.Identity(), distiller=distiller)
    matrices, others = (g["params"] for g in build_optimizer(config, task, DECAY).param_groups)
    assert any(p is student.fc.weight for p in others)
    assert any(p is student.conv1.weight for p in matrices)
    assert any(p is distiller.adapters["layer1"].weight for p in matrices)
    trained = [p for p in task.parameters() if p.requires_grad]
    assert sorted(map(id, [*matrices, *others])) == sorted(map(id, trained))
