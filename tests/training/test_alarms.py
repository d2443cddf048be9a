"""Alarms on runs that learn nothing, said once; runs that learn raise none."""

import numpy as np
import pytest
import torch
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.data import ArraySource
from mgd_ssl.models import keeping_buffers
from mgd_ssl.training.alarms import ConstantLoss, UnmovedStudent, measure_or_warn, warn_of_guessing
from mgd_ssl.training.checks import check_enlarged


@pytest.mark.parametrize(("steps", "after"), [(1, 3), (20, 20), (1000, 50)])
@pytest.mark.parametrize("loss", [0.0, 2.5])
def test_a_constant_loss_is_said_once(
    caplog: pytest.LogCaptureFixture, steps: int, after: int, loss: float
) -> None:
    alarm = ConstantLoss(steps)
    alarm.add(7.0)
    for _ in range(after - 1):
        alarm.add(loss)
    assert caplog.messages == []
    for _ in range(100):
        alarm.add(loss * (1 + 1e-8))
    assert len(caplog.messages) == 1
    assert f"{loss:g} for {after} steps" in caplog.messages[0]


def test_a_loss_that_moves_a_little_is_none(caplog: pytest.LogCaptureFixture) -> None:
    alarm = ConstantLoss(10)
    for step in range(200):
        alarm.add(2.5 + 1e-5 * (step % 2))
    assert caplog.messages == []


def test_one_weight_that_moved_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    unmoved = UnmovedStudent(student.parameters())
    student(torch.randn(4, 2))  # moves the norm's statistics and no weight
    unmoved.check(student.parameters())
    assert len(caplog.messages) == 1 and "raise --lr" in caplog.messages[0]
    with torch.no_grad():
        student[1].bias[0] += 1e-30
    unmoved.check(student.parameters())
    assert len(caplog.messages) == 2  # less than rounding
    with torch.no_grad():
        student[1].bias[0] += 1e-4
    unmoved.check(student.parameters())
    assert len(caplog.messages) == 2


def test_a_look_in_training_mode_leaves_statistics_as_they_were() -> None:
    norm = nn.BatchNorm1d(3).train()
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    with keeping_buffers(norm):
        norm(torch.randn(8, 3) + 5)
        assert norm.num_batches_tracked == 1
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name])


def images(side: int, labels: list[int]) -> ArraySource:
    return ArraySource(np.zeros((len(labels), side, side), np.uint8), np.array(labels))


def test_small_images_that_are_enlarged_are_said_with_their_cost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check_enlarged(images(32, [0] * 40), 48)
    check_enlarged(images(256, [0]), 224)
    assert caplog.messages == []
    check_enlarged(images(32, [0] * 40), 224)
    assert "32 pixels are enlarged to 224: 49 times the work" in caplog.messages[0]
    assert "--size 32" in caplog.messages[0] and "--teacher-size 224" in caplog.messages[0]


@pytest.mark.parametrize(
    ("labels", "top1", "warned"),
    [([0, 1, 2, 3], 45.0, True), ([0, 1, 2, 3], 55.0, False), ([0, 0, 0, 1], 80.0, True)],
)
def test_a_teacher_hardly_better_than_guessing_is_said(
    labels: list[int], top1: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_guessing(top1, images(8, labels))
    assert ["hardly better than guessing" in text for text in caplog.messages] == [True] * warned


@pytest.mark.parametrize(
    ("processes", "error", "goes_on"),
    [
        (1, RuntimeError, True),
        (2, RuntimeError, False),  # of this process alone: the others wait for it
        (2, distributed.ShareFailedError, True),
        (2, OSError, True),
    ],
)
def test_a_measurement_that_fails_on_one_of_several_processes_ends_the_run(
    processes: int,
    error: type[Exception],
    goes_on: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: processes)

    def measure(epoch: int) -> dict[str, float]:
        raise error("no memory")

    student = torch.nn.Linear(2, 2)
    if goes_on:
        assert measure_or_warn(measure, 0, student) == {}
        assert "could not be measured after epoch 1: no memory" in caplog.text
    else:
        with pytest.raises(error, match="no memory"):
            measure_or_warn(measure, 0, student)
