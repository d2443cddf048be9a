"""What a resumed run reads of its checkpoint is all there and of the run, or is refused by name."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.training.restoring import (
    check_optimizer,
    check_sections,
    restore_module,
    restore_optimizer,
)
from mgd_ssl.training.run_content import read_everywhere

PATH = Path("runs/a/checkpoints/last.pt")


def content() -> dict[str, Any]:
    return {
        "config": {"seed": 0},
        "distiller": None,
        "optimizer": {"state": {}, "param_groups": []},
        "precision": {},
        "progress": {"epoch": 1, "step": 2, "best": float("-inf")},
        "state_dict": {},
        "steps_per_epoch": 5,
        "teacher": None,
    }


def test_a_whole_checkpoint_passes() -> None:
    check_sections(PATH, content())


@pytest.mark.parametrize("entry", list(content()))
def test_a_missing_section_is_named(entry: str) -> None:
    short = {k: v for k, v in content().items() if k != entry}
    with pytest.raises(ValueError, match=f"resume: {PATH} has no entry '{entry}', expected"):
        check_sections(PATH, short)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("config", [], r"config: got '\[\]' \(list\), expected a mapping"),
        ("distiller", "none", r"distiller: got 'none' \(str\), expected a mapping, or nothing"),
        ("optimizer", None, "optimizer: got nothing, expected a mapping"),
        ("steps_per_epoch", True, r"steps_per_epoch: got 'True' \(bool\), expected a whole"),
        ("steps_per_epoch", "5", r"steps_per_epoch: got '5' \(str\)"),
        ("teacher", 3, r"teacher: got '3' \(int\), expected a digest"),
        ("progress", {"epoch": -1, "step": 0, "best": 0.0}, r"progress\.epoch: got '-1'"),
        ("progress", {"epoch": 1, "best": 0.0}, r"progress\.step: got nothing, expected a whole"),
        ("progress", {"epoch": 1, "step": 0, "best": "9"}, r"progress\.best: got '9' \(str\)"),
        ("progress", {"epoch": 1, "step": 0, "best": float("nan")}, r"progress\.best: got 'nan'"),
        ("progress", {"epoch": True, "step": 0, "best": 0.0}, r"progress\.epoch: got 'True'"),
    ],
)
def test_a_section_of_another_kind_is_named(entry: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        check_sections(PATH, content() | {entry: value})
    assert "--overwrite" in str(error.value) and str(PATH) in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": torch.ones(3, 3)}, r"weight: got \(3, 3\) torch\.float32, expected \(2, 3\)"),
        ({"weight": torch.ones(2, 3).to_sparse()}, "sparse_coo, expected"),
        ({"weight": torch.ones(2, 3).double()}, r"got \(2, 3\) torch\.float64"),
        ({"weight": None}, "weight: got nothing"),
        ({"bias": [0.0, 0.0]}, "bias: got list of 2"),
        ({"scale": torch.ones(1)}, "scale: unknown"),
        ({"bias": torch.tensor([0.0, float("inf")])}, "bias: got 1 of 2 values that are NaN or in"),
    ],
)
def test_a_part_is_loaded_whole_or_not_at_all(change: dict[str, Any], said: str) -> None:
    layer = nn.Linear(3, 2)
    state = {k: torch.full_like(v, 7) for k, v in layer.state_dict().items()} | change
    with pytest.raises(ValueError, match=said):
        restore_module(layer, state, PATH, "state_dict")
    assert not (layer.weight == 7).any()


class Counting(nn.Linear):
    """A layer with more in its state than tensors, as the distiller has."""

    def get_extra_state(self) -> dict[str, Any]:
        return {"solves": 3, "scales": [1.0, 2.0]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.solves = state["solves"]


def test_what_stands_beside_the_tensors_is_loaded_and_checked() -> None:
    layer = Counting(2, 2)
    state = layer.state_dict()
    restore_module(layer, state, PATH, "distiller")
    assert layer.solves == 3
    for extra in ({"solves": "3", "scales": [1.0, 2.0]}, {"solves": 3, "scales": [1.0]}, {}, None):
        with pytest.raises(ValueError, match=r"_extra_state: got .*, expected \{scales: list of 2"):
            restore_module(layer, state | {"_extra_state": extra}, PATH, "distiller")


def trained(make: Any, *widths: int) -> torch.optim.Optimizer:
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
    optimizer: torch.optim.Optimizer = make(layers.parameters(), lr=0.1)
    layers(torch.ones(1, widths[0])).sum().backward()
    optimizer.step()
    return optimizer


def sgd(parameters: Any, lr: float, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr, momentum=0.9, **options)


@pytest.mark.parametrize("make", [sgd, torch.optim.AdamW])
def test_an_optimizers_state_is_of_the_parameters_it_goes_on_with(make: Any) -> None:
    own = trained(make, 3, 2)
    check_optimizer(own, own.state_dict(), PATH)
    new = make(nn.Linear(3, 2).parameters(), lr=0.1)
    check_optimizer(new, own.state_dict(), PATH)  # as at resumption
    check_optimizer(own, new.state_dict(), PATH)  # before the first step there is none
    with pytest.raises(ValueError, match=r"got '\(2, 4\)' \(tuple\), expected the parameter's sh"):
        check_optimizer(own, trained(make, 4, 2).state_dict(), PATH)
    with pytest.raises(ValueError, match=r"param_groups: got '\[4\]'.*groups of \[2\] parameters"):
        check_optimizer(own, trained(make, 3, 2, 2).state_dict(), PATH)
    spoiled = own.state_dict()
    next(v for v in spoiled["state"][0].values() if v is not None and v.ndim).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"optimizer\.state\.0\.\w+: got 6 of 6 values that are"):
        check_optimizer(own, spoiled, PATH)


@pytest.mark.parametrize("later", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("make", [sgd, torch.optim.AdamW])
def test_moments_follow_weights_into_another_layout(make: Any, later: torch.memory_format) -> None:
    """A fused update of the resumed network is that of one which kept its layout."""
    torch.manual_seed(0)
    first = torch.contiguous_format if later == torch.channels_last else torch.channels_last
    layer = nn.Conv2d(5, 7, 3).to(memory_format=first)
    kept = make(layer.parameters(), lr=0.1, fused=True)
    image = torch.rand(2, 5, 6, 6)

    def update(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        network(image).square().sum().backward()
        optimizer.step()

    update(layer, kept)
    other = copy.deepcopy(layer).to(memory_format=later)
    resumed = make(other.parameters(), lr=0.1, fused=True)
    restore_optimizer(resumed, copy.deepcopy(kept.state_dict()))
    moment = next(v for v in resumed.state[other.weight].values() if v.ndim)
    assert moment.stride() == other.weight.stride()
    update(layer, kept)
    update(other, resumed)
    torch.testing.assert_close(other.weight, layer.weight.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({}, "expected its state and param_groups"),
        ({"state": [], "param_groups": []}, "expected its state and param_groups"),
        ({"state": {}, "param_groups": []}, r"got '\[\]' \(list\), expected groups of \[2\]"),
        ({"state": {}, "param_groups": ["a"]}, r"got '\[None\]'"),
        ({"state": {}, "param_groups": [{"params": [0, 1]}]}, r"got '\[None\]'"),
        (
            {"state": {0: "a"}, "param_groups": [{"params": [0, 1], "lr": 0.1}]},
            r"optimizer\.state\.0: got 'a' \(str\), expected a mapping",
        ),
    ],
)
def test_what_is_no_optimizers_state_is_refused(state: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_optimizer(trained(sgd, 3, 2), state, PATH)


@pytest.mark.parametrize("other", [(None, None), (1, 3)])
def test_processes_that_find_different_checkpoints_are_refused(
    other: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(content(), tmp_path / "last.pt")
    assert read_everywhere(tmp_path) == content()
    monkeypatch.setattr(distributed, "gather_list", lambda items: [*items, other])
    place = "none" if other[0] is None else "epoch 1, step 3"
    with pytest.raises(ValueError, match=rf"\(epoch 1, step 2; {place}\), .* machines share"):
        read_everywhere(tmp_path)
