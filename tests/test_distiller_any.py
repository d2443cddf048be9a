"""The distiller between maps of any kind: standardized, resized, measured, wider."""

import pytest
import torch
from torch.nn import functional as F

from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.matching import matching_loss
from mgd_ssl.stages import plan_channels, plan_stages, read_margins


def build(teacher, student, forms, **options):
    names = [f"s{i}" for i in range(len(student))]
    stages = plan_stages(teacher, student, names, forms=forms)
    return FeatureDistiller(stages, read_margins([None] * len(teacher), stages), **options)


def test_a_map_without_activation_is_standardized_and_counts_on_both_sides() -> None:
    torch.manual_seed(0)
    teacher, student = [3 * torch.randn(4, 6, 3, 3) + 5], [torch.randn(4, 3, 3, 3)]
    distiller = build(teacher, student, ["standard"], reduction="sum", scale=1.0).eval()
    assert distiller.needs_measuring
    distiller.measure([teacher])
    assert not distiller.needs_measuring
    distiller.solve(distiller.costs([(student, teacher)]))
    losses = distiller(student, teacher)
    values = teacher[0].double()
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)
    target = (values - mean[:, None, None]) / std[:, None, None]
    groups = distiller.assignment(distiller.stages[0])
    members = target[:, groups]  # (N,C_s,G,H,W)
    reduced = members.gather(2, members.abs().argmax(2, keepdim=True))[:, :, 0]
    adapted = F.batch_norm(student[0].double(), torch.zeros(3).double(), torch.ones(3).double())
    expected = (adapted - reduced).square().sum()
    assert float(losses["matching/s0"]) == pytest.approx(float(expected), rel=1e-4)


def test_a_rectified_map_without_a_batch_norm_has_its_margin_measured() -> None:
    teacher = [torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(1))]
    student = [torch.randn(8, 2, 5, 5)]
    distiller = build(teacher, student, ["rectified"])
    distiller.measure([[x] for x in teacher[0].split(3)])
    values = teacher[0].transpose(0, 1).flatten(1)
    expected = torch.stack([v[v < 0].mean() for v in values])
    torch.testing.assert_close(distiller.margin(distiller.stages[0]), expected)


def test_a_matching_that_was_not_measured_is_not_solved_by_chance() -> None:
    teacher, student = [torch.randn(2, 4, 3, 3)], [torch.randn(2, 2, 3, 3)]
    distiller = build(teacher, student, ["rectified"])
    distiller.solve(distiller.costs([(student, teacher)]))
    with pytest.raises(RuntimeError, match="were not measured"):
        distiller(student, teacher)


@pytest.mark.parametrize("adapter", ["batch", "group", "expand"])
def test_a_wider_student_of_another_side_learns(adapter: str) -> None:
    torch.manual_seed(0)
    teacher, student = [torch.randn(4, 3, 8, 8)], [torch.randn(4, 8, 4, 4, requires_grad=True)]
    distiller = build(teacher, student, ["standard"], adapter=adapter, reduction="element")
    distiller.measure([teacher])
    distiller.solve(distiller.costs([(student, teacher)]))
    loss = distiller(student, teacher)["matching/s0"]
    loss.backward()
    assert loss.isfinite() and student[0].grad is not None and student[0].grad.any()


def test_statistics_are_part_of_the_state() -> None:
    torch.manual_seed(0)
    teacher, student = [2 * torch.randn(4, 4, 3, 3) + 1], [torch.randn(4, 2, 3, 3)]
    first, second = (build(teacher, student, ["standard"]) for _ in range(2))
    first.measure([teacher])
    first.solve(first.costs([(student, teacher)]))
    second.load_state_dict(first.state_dict())
    assert not second.needs_measuring
    first.eval(), second.eval()
    assert torch.equal(
        first(student, teacher)["matching/s0"], second(student, teacher)["matching/s0"]
    )


# a grid


@pytest.mark.parametrize(("adapter", "side"), [("expand", 8), ("expand", 3), ("batch", 8)])
def test_maps_larger_than_the_grid_are_compared_by_their_means(adapter, side):
    torch.manual_seed(0)
    stages = plan_channels([6], [4], ["layer"])
    margins = [-torch.rand(6)]
    distiller = FeatureDistiller(
        stages, margins, adapter=adapter, scale=1.0, reduction="sum", grid=2
    )
    student, teacher = torch.randn(5, 4, side, side), torch.randn(5, 6, 8, 8)
    distiller.solve(distiller.costs([([student], [teacher])]))
    (loss,) = distiller([student], [teacher]).values()
    adapted = F.adaptive_avg_pool2d(distiller.adapters["layer"](student), 2)
    expected = matching_loss(
        adapted, F.adaptive_avg_pool2d(teacher, 2), distiller.assignment(stages[0]), margins[0]
    )
    torch.testing.assert_close(loss, expected)


def test_a_grid_above_every_side_changes_nothing():
    torch.manual_seed(0)
    maps = [torch.randn(3, 4, 4, 4)], [torch.randn(3, 6, 4, 4)]
    losses = []
    for grid in (0, 4, 9):
        torch.manual_seed(1)
        distiller = FeatureDistiller(plan_channels([6], [4], ["a"]), [torch.zeros(6)], grid=grid)
        distiller.solve(distiller.costs([maps]))
        losses.append(distiller(*maps)["matching/a"])
    assert losses[0] == losses[1] == losses[2]
