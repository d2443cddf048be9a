"""Learning rates held against figures worked out by hand."""

import pytest
import torch
from torch import nn

from mgd_ssl.settings.run import OptimizerName, OptimizerOptions
from mgd_ssl.training.schedules import (
    LearningRate,
    learning_rate,
    pretraining_rate,
    weight_decay,
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.03), (50, 0.0256066017), (100, 0.015), (150, 0.0043933983), (199, 1.8505128e-6)],
)
def test_the_cosine_of_moco_moves_once_an_epoch(epoch: int, expected: float) -> None:
    rate = LearningRate(0.03, 200, "cosine_per_epoch")
    assert rate(epoch, 0, 7) == pytest.approx(expected, rel=1e-6)
    assert rate(epoch, 6, 7) == rate(epoch, 0, 7)


def test_the_cosine_falls_step_by_step_and_anneals_a_run_of_two_epochs() -> None:
    """Held against torch's own schedule, stepped once a step."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], 0.8)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2 * 5)
    rate = LearningRate(0.8, 2)
    for taken in range(10):
        assert rate(*divmod(taken, 5), 5) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rate(1, 4, 5) < 0.03 * rate(0, 0, 5)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.03), (119, 0.03), (120, 0.003), (159, 0.003), (160, 0.0003)]
)
def test_steps_drop_to_a_tenth_at_120_and_160(epoch: int, expected: float) -> None:
    assert LearningRate(0.03, 200, "steps")(epoch, 3, 7) == pytest.approx(expected)


def test_warm_up_rises_step_by_step_and_the_cosine_starts_after_it() -> None:
    rate = LearningRate(0.5, 12, warmup=2)
    assert rate(0, 0, 10) == pytest.approx(0.5 * 1 / 20)
    assert rate(1, 4, 10) == pytest.approx(0.5 * 15 / 20)
    assert rate(1, 9, 10) == pytest.approx(0.5)
    assert rate(2, 0, 10) == pytest.approx(0.5)
    assert rate(7, 0, 10) == pytest.approx(0.25)  # half of the ten epochs after the warm-up


@pytest.mark.parametrize("base", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_not_above_zero_is_refused(base: float) -> None:
    with pytest.raises(ValueError, match=r"lr: got .*, expected a number above 0"):
        LearningRate(base, 10)


@pytest.mark.parametrize("warmup", [10, -1])
def test_a_warm_up_as_long_as_the_run_is_refused(warmup: int) -> None:
    with pytest.raises(ValueError, match=f"warmup: got {warmup} of 10 epochs, expected fewer"):
        LearningRate(0.1, 10, warmup=warmup)


@pytest.mark.parametrize(
    ("epochs", "steps", "norm", "expected"),
    [
        (1, 10, nn.BatchNorm2d, 16e-3),
        (40, 100, nn.BatchNorm2d, 16e-3),
        (160, 100, nn.SyncBatchNorm, 8e-3),
        (640, 100, nn.BatchNorm2d, 4e-3),
        (40, 100, nn.LayerNorm, 2e-3),
        (160, 100, nn.LayerNorm, 1e-3),
    ],
)
def test_adamw_finds_its_rate_from_the_steps_of_the_run_and_the_norms_of_the_student(
    epochs: int, steps: int, norm: type[nn.Module], expected: float
) -> None:
    options = OptimizerOptions(epochs=epochs, optimizer="adamw", lr=0.0)
    short = pretraining_rate(nn.Sequential(nn.ReLU(), norm(4)))
    rate = learning_rate(options, steps, short)
    assert (rate.base, rate.warmup) == pytest.approx((expected, epochs / 10))


@pytest.mark.parametrize(
    ("optimizer", "given", "expected"),
    [("muon", None, 0.5), ("adamw", None, 0.5), ("sgd", None, 0), ("adamw", 0, 0), ("sgd", 2, 2)],
)
def test_a_rate_that_is_given_stays_and_its_warm_up_is_that_of_the_optimizer(
    optimizer: OptimizerName, given: int | None, expected: float
) -> None:
    options = OptimizerOptions(epochs=5, optimizer=optimizer, lr=1e-3, warmup_epochs=given)
    rate = learning_rate(options, 10, 8e-3)
    assert (rate.base, rate.warmup, rate.epochs) == (1e-3, expected, 5)


@pytest.mark.parametrize(("given", "epochs", "warmup"), [(None, 5, 0.5), (0, 5, 0), (2, 7, 2)])
def test_a_warm_up_that_is_given_comes_before_the_epochs_of_classify(
    given: int | None, epochs: int, warmup: float
) -> None:
    options = OptimizerOptions(epochs=5, optimizer="adamw", warmup_epochs=given)
    rate = learning_rate(options, 10, 8e-3, extend=True)
    assert (rate.epochs, rate.warmup) == (epochs, warmup)


@pytest.mark.parametrize(
    ("rate", "steps", "norm", "given", "expected"),
    [
        (16e-3, 4000, nn.BatchNorm2d, None, 0.03125),  # the rate times 4,000 steps times it is 2
        (1e-3, 50_000, nn.SyncBatchNorm, None, 0.04),
        (16e-3, 100, nn.BatchNorm2d, None, 0.5),  # no more
        (2e-3, 4000, nn.LayerNorm, None, 0.05),
        (16e-3, 4000, nn.BatchNorm2d, 0.0, 0.0),
    ],
)
def test_the_decay_follows_from_rate_and_steps(
    rate: float, steps: int, norm: type[nn.Module], given: float | None, expected: float
) -> None:
    options = OptimizerOptions(optimizer="adamw", weight_decay=given)
    student = nn.Sequential(nn.ReLU(), norm(4))
    found = weight_decay(options, LearningRate(rate, 10), steps // 10, student)
    assert found == pytest.approx(expected)


def test_sgd_finds_neither_rate_nor_decay() -> None:
    with pytest.raises(ValueError, match="lr: got 0, which finds a rate for adamw and muon"):
        OptimizerOptions(lr=0.0).check()
    with pytest.raises(ValueError, match=r"weight_decay: got None, .* for adamw and muon"):
        OptimizerOptions(weight_decay=None).check()
