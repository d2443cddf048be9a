"""Stages of two networks are paired before training, or refused with a remedy."""

import pytest
import torch
from torch import nn

from mgd_ssl.matching import batchnorm_margin
from mgd_ssl.stages import MisfitError, Stage, plan_stages, read_margins


def maps(*shapes):
    return [torch.zeros(2, *shape) for shape in shapes]


@pytest.mark.parametrize(
    ("teacher", "student", "ignore", "message"),
    [
        ([(8, 4, 4)], [(4, 4, 4), (4, 2, 2)], [], "got 2 student stages and 1 teacher stages"),
        ([(8, 4, 4)], [(4, 2, 2)], [], r"student's side is 2×2, the teacher's 4×4.*no stage is"),
        ([(8, 4, 4)], [(9, 4, 4)], [], r"wider \(9 channels\) than the teacher \(8\).*thinner"),
        ([(8, 4, 4)], [(4, 4, 4)], [1], "ignore: got stage 1, expected 0 to 0"),
        ([(8, 4, 4)], [(4, 4, 4)], [-1], "ignore: got stage -1, expected 0 to 0"),
        ([(8, 4, 4)], [(4, 4, 4)], [0], "every stage is ignored, expected one or more"),
    ],
)
def test_a_plan_that_cannot_be_distilled_is_refused(teacher, student, ignore, message):
    names = [f"layer{i}" for i, _ in enumerate(student)]
    with pytest.raises(ValueError, match=message):
        plan_stages(maps(*teacher), maps(*student), names, ignore)


def test_all_stages_that_do_not_fit_are_named_at_once_with_those_that_were_ignored():
    teacher = maps((8, 4, 4), (8, 4, 4), (8, 4, 4), (8, 2, 2), (8, 1, 1))
    student = maps((9, 4, 4), (8, 2, 2), (4, 4, 4), (9, 2, 2), (4, 1, 1))
    norms = [nn.BatchNorm2d(8), nn.BatchNorm2d(8), None, nn.BatchNorm2d(8), nn.BatchNorm2d(8)]
    with pytest.raises(MisfitError) as refused:
        plan_stages(teacher, student, list("abcde"), [3], norms)
    said = str(refused.value)
    assert "stage a: the student is wider" in said and "stage b: the student's side" in said
    assert "stage c: the teacher has no batch norm" in said and "stage d" not in said
    assert "; --ignore 0 1 2 3, or take a thinner" in said
    plan = plan_stages(teacher, student, list("abcde"), [0, 1, 2, 3], norms)
    assert [stage.name for stage in plan if not stage.ignored] == ["e"]


def test_a_plan_pairs_the_stages_and_warns():
    teacher, student = maps((8, 4, 4), (8, 2, 2), (16, 1, 1)), maps((9, 8, 8), (8, 2, 2), (4, 1, 1))
    plan = plan_stages(teacher, student, ["a", "b", "c"], ignore=[0])  # ignored, it may be wider
    assert plan[1] == Stage(1, "b", 8, 8, (2, 2))
    assert plan[0].warnings == ["ignored"]
    assert plan[1].warnings == ["as many channels: groups of one"]
    assert plan[2].warnings[0].startswith("side 1: only signs are compared")


def test_margins_come_from_the_batch_norms_of_the_stages_that_take_part():
    norms = [None, nn.BatchNorm2d(6)]
    nn.init.uniform_(norms[1].bias)
    stages = [Stage(0, "a", 2, 4, ignored=True), Stage(1, "b", 3, 6)]
    (margin,) = read_margins(norms, stages)
    assert torch.equal(margin, batchnorm_margin(norms[1]))
    with pytest.raises(ValueError, match=r"stage a: the teacher has no batch norm.*--ignore 0"):
        read_margins(norms, [Stage(0, "a", 2, 4), Stage(1, "b", 3, 6)])
