"""Stages of two networks are paired before training, or refused with a remedy."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mgd_ssl.matching import batchnorm_margin
from mgd_ssl.stages import UNBOUNDED, Stage, plan_channels, plan_stages, read_margins, same_side


def maps(*shapes):
    return [torch.zeros(2, *shape) for shape in shapes]


@pytest.mark.parametrize(
    ("ignore", "message"),
    [
        ([1], "ignore: got stage 1, expected 0 to 0"),
        ([-1], "ignore: got stage -1, expected 0 to 0"),
        ([0], "every stage is ignored, expected one or more"),
    ],
)
def test_a_plan_that_cannot_be_distilled_is_refused(ignore, message):
    with pytest.raises(ValueError, match=message):
        plan_stages(maps((8, 4, 4)), maps((4, 4, 4)), ["a"], ignore)


def test_channels_alone_are_paired_in_order_and_must_be_as_many():
    assert plan_channels([8, 6], [4, 9], ["a", "b"]) == [Stage(0, "a", 4, 8), Stage(1, "b", 9, 6)]
    with pytest.raises(ValueError, match="got 2 student stages and 1 teacher stages"):
        plan_channels([8], [4, 4], ["a", "b"])


def test_as_many_maps_meet_in_order_whatever_their_sides():
    teacher, student = maps((8, 4, 4), (8, 2, 2), (4, 1, 1)), maps((9, 8, 8), (8, 2, 2), (4, 1, 1))
    plan = plan_stages(teacher, student, ["a", "b", "c"], ignore=[2])
    assert [stage.teacher_index for stage in plan] == [0, 1, 2]
    assert (plan[0].student_side, plan[0].teacher_side) == ((8, 8), (4, 4))
    assert plan[0].warnings == ["resized", "a teacher channel serves several"]
    assert plan[1].warnings == ["as many channels: groups of one"]
    assert plan[2].warnings == ["ignored"]


def test_one_map_teaches_the_stages_of_about_its_side():
    student = maps((4, 56, 56), (8, 28, 28), (16, 14, 14), (32, 7, 7))
    plan = plan_stages(maps((64, 14, 14)), student, list("abcd"))
    assert [stage.teacher_index for stage in plan] == [0, 0, 0, 0]
    assert [stage.ignored for stage in plan] == [True, False, False, False]
    far = plan_stages(maps((64, 2, 2)), student, list("abcd"))
    assert not any(stage.ignored for stage in far)  # where none is near, all are matched


def test_sides_are_compared_as_if_both_saw_images_of_one_size():
    student = maps((4, 56, 56), (8, 28, 28), (16, 14, 14), (32, 7, 7))
    usual = plan_stages(maps((64, 14, 14)), student, list("abcd"))
    twice = plan_stages(maps((64, 28, 28)), student, list("abcd"), enlarged=2.0)
    assert [stage.ignored for stage in twice] == [stage.ignored for stage in usual]
    assert twice[3].teacher_side == (28, 28)
    teacher = maps((4, 112, 112), (8, 56, 56), (16, 28, 28), (32, 14, 14))
    (stage,) = plan_stages(teacher, maps((48, 9, 9)), ["tokens"], enlarged=2.0)
    assert stage.teacher_index == 3


def test_a_students_one_map_meets_the_teachers_of_the_nearest_side():
    teacher = maps((4, 56, 56), (8, 28, 28), (16, 14, 14), (32, 7, 7))
    (stage,) = plan_stages(teacher, maps((48, 16, 16)), ["tokens"], forms=["rectified"] * 4)
    assert (stage.teacher_index, stage.teacher_channels) == (2, 16)
    (stage,) = plan_stages(teacher, maps((48, 9, 9)), ["tokens"])
    assert stage.teacher_index == 3  # 9 is 1.29 times 7, and 14 is 1.56 times 9


def test_margins_come_from_batch_norms_or_are_left_to_measure():
    norms = [None, nn.BatchNorm2d(6), None, None]
    nn.init.uniform_(norms[1].bias)
    stages = [
        Stage(0, "a", 2, 4, ignored=True),
        Stage(1, "b", 3, 6),
        Stage(2, "c", 3, 6),
        Stage(3, "d", 3, 6, form="linear"),
    ]
    known, unknown, linear = read_margins(norms, stages)
    assert torch.equal(known, batchnorm_margin(norms[1]))
    assert unknown.isnan().all() and (linear == UNBOUNDED).all()


def test_the_larger_map_is_pooled_to_the_smaller():
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)
    ours, theirs = same_side(student, teacher)
    torch.testing.assert_close(ours, F.avg_pool2d(student, 2))
    assert theirs is teacher
    ours, theirs = same_side(teacher, student)
    assert ours is teacher and theirs.shape == (2, 3, 4, 4)
