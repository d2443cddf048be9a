"""Every figure of the golden files, produced by running the first implementation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mgd_ssl.choices import usual_mode
from mgd_ssl.matching import (
    REDUCERS,
    assign_channels,
    batchnorm_margin,
    channel_cost,
    gather_groups,
    gather_margin,
    kd_loss,
    matching_loss,
    stage_weights,
)

FOLDER = Path(__file__).parents[1] / "golden"
CASES = json.loads((FOLDER / "mgd_reference.json").read_text())
with np.load(FOLDER / "mgd_reference.npz") as stored:
    GOLDEN = {key: torch.from_numpy(np.asarray(stored[key])) for key in stored.files}
STAGES = [
    (case, i)
    for case, facts in CASES.items()
    for i in range(len(facts["student_channels"]))
    if i not in facts["ignore"]
]
REDUCED = ("amp", "sp", "sm")


def margin_of(case, i):
    gamma, beta = (GOLDEN[f"{case}/teacher_bn_{part}{i}"] for part in ("weight", "bias"))
    norm = nn.BatchNorm2d(len(gamma))
    norm.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
    return batchnorm_margin(norm)


def assignment_of(case, i, reducer):
    mode = usual_mode(reducer)
    if case == "remainder" and mode == "balanced":
        mode = "shave"  # all that the first implementation knew
    return assign_channels(GOLDEN[f"{case}/cost{i}"], mode)


def loss_of(case, i, reducer):
    student, teacher = GOLDEN[f"{case}/student{i}"], GOLDEN[f"{case}/teacher{i}"]
    adapted = nn.BatchNorm2d(student.shape[1])(student).detach()
    assignment = assignment_of(case, i, reducer)
    return float(matching_loss(adapted, teacher, assignment, margin_of(case, i), reducer))


def test_no_figure_is_left_unread():
    kinds = {key.split("/")[-1].rstrip("0123456789") for key in GOLDEN}
    assert kinds == {
        *("student", "teacher", "teacher_bn_weight", "teacher_bn_bias", "student_logits"),
        *("teacher_logits", "cost", "margin", "groups", "target", "target_margin", "stage_loss"),
        *("distillation_loss", "kd_loss"),
    }


@pytest.mark.parametrize(("case", "i"), STAGES)
def test_cost(case, i):
    cost = channel_cost(GOLDEN[f"{case}/student{i}"], GOLDEN[f"{case}/teacher{i}"])
    torch.testing.assert_close(cost, GOLDEN[f"{case}/cost{i}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("case", "i"), STAGES)
def test_margin(case, i):
    golden = GOLDEN[f"{case}/margin{i}"]
    torch.testing.assert_close(margin_of(case, i), golden, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reducer", REDUCED)
@pytest.mark.parametrize(("case", "i"), STAGES)
def test_groups_as_sets(case, i, reducer):
    groups = assignment_of(case, i, reducer)
    assert groups.tolist() == GOLDEN[f"{case}/{reducer}/groups{i}"].sort(1).values.tolist()


@pytest.mark.parametrize("reducer", REDUCED)
@pytest.mark.parametrize(("case", "i"), STAGES)
def test_target_and_its_margin(case, i, reducer):
    groups = GOLDEN[f"{case}/{reducer}/groups{i}"]
    target, margin = REDUCERS[reducer](
        gather_groups(GOLDEN[f"{case}/teacher{i}"], groups),
        gather_margin(margin_of(case, i), groups),
    )
    torch.testing.assert_close(target, GOLDEN[f"{case}/{reducer}/target{i}"], atol=1e-5, rtol=0)
    golden_margin = GOLDEN[f"{case}/{reducer}/target_margin{i}"]
    torch.testing.assert_close(margin, golden_margin, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reducer", REDUCED)
@pytest.mark.parametrize(("case", "i"), STAGES)
def test_stage_loss(case, i, reducer):
    golden = float(GOLDEN[f"{case}/{reducer}/stage_loss{i}"])
    assert loss_of(case, i, reducer) == pytest.approx(golden, rel=1e-4)


@pytest.mark.parametrize("reducer", REDUCED)
@pytest.mark.parametrize("case", CASES)
def test_distillation_loss_weighs_stages_by_their_index_among_all(case, reducer):
    count = len(CASES[case]["student_channels"])
    weights = stage_weights(count)
    total = sum(weights[i] * loss_of(case, i, reducer) for c, i in STAGES if c == case)
    golden = float(GOLDEN[f"{case}/{reducer}/distillation_loss"])
    assert total == pytest.approx(golden, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_kd_loss(case):
    loss = kd_loss(GOLDEN[f"{case}/student_logits"], GOLDEN[f"{case}/teacher_logits"])
    assert float(loss) == pytest.approx(float(GOLDEN[f"{case}/kd_loss"]), rel=1e-4)
