"""Health as training goes: hand figures, and an alarm where features collapse."""

import numpy as np
import pytest
import torch
from torch import nn

from mgd_ssl.data import ArraySource, make_loader
from mgd_ssl.evaluation.features import collect_features
from mgd_ssl.evaluation.health import (
    effective_rank,
    feature_deviation,
    linear_cka,
    neighbor_overlap,
)
from mgd_ssl.evaluation.online_health import OnlineHealth

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Pixels(nn.Module):
    """Features are pixels times a matrix."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0].flatten(1) @ self.weight


def make_health(k: int = 5) -> OnlineHealth:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    loader = make_loader(ArraySource(images), 4, 16, train=False)
    return OnlineHealth(loader, k, torch.device("cpu"))


def network(seed: int, width: int = 6) -> Pixels:
    return Pixels(torch.randn(16, width, generator=torch.Generator().manual_seed(seed)))


def test_deviation_by_hand() -> None:
    """Four unit vectors along ±x and ±y: each coordinate has variance 1/2, times √2 → 1."""
    cross = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0], [0.0, -1.0]])
    assert feature_deviation(cross) == pytest.approx(1.0)
    assert feature_deviation(torch.tensor([[1.0, 1.0], [2.0, 2.0]])) == 0.0
    with pytest.raises(ValueError, match="expected two or more, all finite"):
        feature_deviation(torch.tensor([[float("nan")], [1.0]]))


def test_figures_are_those_of_the_functions() -> None:
    health, teacher, student = make_health(), network(1), network(2)
    alone = health(student, PLAIN)
    assert set(alone) == {"health/effective_rank", "health/deviation", "health_images"}
    health.set_teacher(teacher, PLAIN)
    figures = health(student, PLAIN)
    t, s = (
        collect_features(n, health.loader, transform=lambda x: x.float() / 255, device="cpu")[0]
        for n in (teacher, student)
    )
    expected = {
        "health/effective_rank": effective_rank(s),
        "health/deviation": feature_deviation(s),
        "health/neighbor_overlap": neighbor_overlap(t, s, 5),
        "health/cka": linear_cka(t, s),
        "health_images": len(s),
        "health_neighbors": 5.0,
    }
    assert figures == pytest.approx(expected, rel=1e-5)


def test_a_student_like_its_teacher_agrees_wholly() -> None:
    health, teacher = make_health(), network(1)
    health.set_teacher(teacher, PLAIN)
    figures = health(teacher, PLAIN)
    assert figures["health/neighbor_overlap"] == pytest.approx(1.0)
    assert figures["health/cka"] == pytest.approx(1.0)


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("collapsed", ["a point", "a line"])
def test_a_collapse_is_named_with_its_remedy(
    collapsed: str, taught: bool, caplog: pytest.LogCaptureFixture
) -> None:
    weight = torch.zeros(16, 6) if collapsed == "a point" else torch.ones(16, 6)
    health = make_health()
    if taught:
        health.set_teacher(network(1), PLAIN)
    figures = health(Pixels(weight), PLAIN)
    assert figures["health/effective_rank"] == pytest.approx(1.0, abs=1e-3)
    assert figures["health/deviation"] == pytest.approx(0.0, abs=1e-6)
    assert "lasts beyond the first epochs" in caplog.text
    assert ("match a teacher" in caplog.text) is not taught


def test_a_healthy_student_raises_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    make_health()(network(2), PLAIN)
    assert caplog.text == ""


def test_a_student_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected finite features"):
        make_health()(Pixels(torch.full((16, 6), float("nan"))), PLAIN)
