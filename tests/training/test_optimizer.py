"""The optimizers of a run change the weights as torch's loop over tensors does."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.optimizer import build_optimizer

OPTIONS = [
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.01},
]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 6))
    layers[2].bias.requires_grad_(False)
    return layers


def decay(options: dict[str, object]) -> float:
    return float(str(options["weight_decay"]))


def plain(options: dict[str, object], trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[str(options["optimizer"])]
    given = {name: value for name, value in options.items() if name != "optimizer"}
    return kind(trained, **given, foreach=False, fused=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", OPTIONS)
def test_an_update_is_that_of_torchs_loop(options: dict[str, object]) -> None:
    ours, theirs = network(), network()
    config = complete(PretrainConfig, data=Path("d"), method="moco", **options)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    optimizers = (
        build_optimizer(config, Task(ours, nn.Identity()), decay(options)),
        plain(options, trained),
    )
    before = [p.detach().clone() for p in ours.parameters()]
    for _ in range(5):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            if other.requires_grad:
                mine.grad = torch.randn_like(mine)
                other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, start in zip(ours.parameters(), theirs.parameters(), before, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        assert torch.equal(mine, start) != other.requires_grad


@pytest.mark.parametrize("options", [*OPTIONS, {**OPTIONS[0], "optimizer": "muon"}])
def test_an_optimizer_that_was_saved_goes_on_to_the_same_bits(options: dict[str, object]) -> None:
    ours, theirs = network(), network()
    config = complete(PretrainConfig, data=Path("d"), method="moco", **options)
    first, second = (
        build_optimizer(config, Task(net, nn.Identity()), decay(options)) for net in (ours, theirs)
    )
    for step in range(6):
        if step == 3:
            theirs.load_state_dict(ours.state_dict())
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        torch.manual_seed(step)
        gradients = [torch.randn_like(p) for p in ours.parameters()]
        for module, optimizer in ((ours, first), (theirs, second)):
            if module is ours or step >= 3:
                for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                    parameter.grad = gradient.clone() if parameter.requires_grad else None
                optimizer.step()
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs)
