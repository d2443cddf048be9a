"""The linear probe against torch's own SGD, problems with known answers, and itself."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgd_ssl.evaluation import linear_probe
from mgd_ssl.evaluation.classifiers import (
    LinearClassifiers,
    accuracies,
    mean_losses,
    standardization,
    train_classifiers,
)
from mgd_ssl.evaluation.linear import divergence_warning, held_out


def rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def clusters(n: int, classes: int, d: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % classes
    return rows(classes, d, 0)[labels] + noise * rows(n, d, seed), labels


def train(x: Tensor, y: Tensor, rates: list[float], epochs: int = 3) -> LinearClassifiers:
    return train_classifiers(
        x,
        y,
        torch.arange(len(x)),
        rates,
        epochs=epochs,
        batch_size=16,
        weight_decay=0.01,
        generator=torch.Generator().manual_seed(5),
    )


def train_by_torch(x: Tensor, y: Tensor, rate: float, epochs: int) -> nn.Linear:
    """The same in float64 by autograd, torch.optim.SGD and its cosine schedule."""
    x = x.double()
    x = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    layer = nn.Linear(x.shape[1], int(y.max()) + 1, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": 0.01}, {"params": [layer.bias]}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    steps = epochs * math.ceil(len(x) / 16)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(5)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(16):
            optimizer.zero_grad()
            F.cross_entropy(layer(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return layer


def test_each_classifier_is_that_of_torchs_sgd_alone() -> None:
    x, y = clusters(100, 4, 6, 1.0, 1)
    rates = [0.01, 0.1, 1.0]
    found = train(3 * x + 2, y, rates)
    for i, rate in enumerate(rates):
        expected = train_by_torch(3 * x + 2, y, rate, epochs=3)
        weight, bias = found.weight[:, i].T.double(), found.bias[i].double()
        torch.testing.assert_close(weight, expected.weight.detach(), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(bias, expected.bias.detach(), atol=1e-4, rtol=1e-3)


def test_a_diverging_rate_leaves_the_others_alone() -> None:
    x, y = clusters(100, 4, 6, 1.0, 1)
    found, alone = train(x, y, [0.1, 1e38, 0.3]), train(x, y, [0.1, 0.3])
    assert not found.weight[:, 1].isfinite().all()
    torch.testing.assert_close(found.weight[:, [0, 2]], alone.weight)
    figures = accuracies(found, x, y, torch.arange(len(x)))
    assert figures[1].isnan().all()
    assert torch.equal(figures[[0, 2]], accuracies(alone, x, y, torch.arange(len(x))))


def test_only_the_rows_asked_for_are_learned_and_measured() -> None:
    x, y = clusters(100, 4, 6, 0.1, 1)
    kept = torch.arange(0, 100, 3)
    other = x.clone()
    other[torch.arange(100) % 3 != 0] = 1e6
    settings = {"epochs": 3, "batch_size": 16, "weight_decay": 0.0}
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    first = train_classifiers(x, y, kept, [0.1], generator=generators[0], **settings)
    second = train_classifiers(other, y, kept, [0.1], generator=generators[1], **settings)
    assert torch.equal(first.weight, second.weight)
    assert accuracies(first, other, y, kept).tolist() == [[100.0, 100.0]]


def test_accuracies_by_hand() -> None:
    eye = torch.eye(6)[:, None]
    found = LinearClassifiers(torch.zeros(6), torch.ones(6), eye, torch.zeros(1, 6))
    x = torch.tensor([[5.0, 4, 3, 2, 1, 0]]).repeat(4, 1)
    y = torch.tensor([0, 4, 5, 9])  # first, fifth, sixth, and a class that is not known
    assert accuracies(found, x, y, torch.arange(4)).tolist() == [[25.0, 50.0]]


def test_standardization_agrees_with_the_formula_and_drops_constants() -> None:
    x = rows(50, 4, 1) * torch.tensor([1.0, 1e4, 1e-4, 0.0]) + torch.tensor([0.0, 5.0, 0.0, 0.1])
    chosen = torch.arange(0, 50, 2)
    shift, factor = standardization(x, chosen)
    reference = x[chosen].double()
    torch.testing.assert_close(shift.double(), reference.mean(dim=0), atol=1e-6, rtol=1e-6)
    deviation = reference.std(dim=0, correction=0)[:3]
    torch.testing.assert_close(factor[:3].double(), 1 / deviation, atol=0, rtol=1e-5)
    assert factor[3] == 0


def test_a_separable_problem_is_solved_and_an_impossible_one_is_at_chance() -> None:
    x, y = clusters(600, 10, 16, 0.2, 1)
    test_x, test_y = clusters(200, 10, 16, 0.2, 2)
    found = linear_probe(x, y, test_x, test_y, epochs=20)
    assert found["top1"] > 99 and found["top5"] == 100 and found["holdout_top1"] > 99
    noise = linear_probe(rows(600, 16, 3), y, rows(2000, 16, 4), torch.arange(2000) % 10, epochs=5)
    assert 6 < noise["top1"] < 14 and 42 < noise["top5"] < 58


def test_known_optimum_of_two_gaussians() -> None:
    # unit noise, centers 2 apart: the best linear rule is right for a share Phi(1) = 84.13 %
    def sample(n: int, seed: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(n) % 2
        x = rows(n, 5, seed)
        x[:, 0] += 2.0 * y
        return x, y

    found = linear_probe(*sample(4000, 1), *sample(20000, 2), epochs=10)
    assert found["top1"] == pytest.approx(84.13, abs=0.7)
    assert found["top5"] == 100.0  # two classes are both among five


def test_the_rate_is_the_best_on_the_held_out_part_and_the_smallest_of_equals() -> None:
    x, y = clusters(400, 8, 12, 1.5, 1)
    test = clusters(200, 8, 12, 1.5, 2)
    found = linear_probe(x, y, *test, epochs=5, learning_rates=(0.3, 1e-6, 0.01, 1e38))
    figures = {row["learning_rate"]: row for row in found["per_lr"]}
    assert list(figures) == [1e-6, 0.01, 0.3, 1e38]
    assert figures[1e38] == {"learning_rate": 1e38, "holdout_top1": 0.0, "diverged": True}
    best = max(row["holdout_top1"] for row in found["per_lr"])
    equals = [rate for rate, row in figures.items() if row["holdout_top1"] == best]
    assert found["learning_rate"] == min(equals) and found["holdout_top1"] == best
    assert found["learning_rate"] != 1e38


def test_test_rows_do_not_choose() -> None:
    x, y = clusters(400, 8, 12, 1.5, 1)
    test_x, test_y = clusters(200, 8, 12, 1.5, 2)
    found = linear_probe(x, y, test_x, test_y, epochs=3)
    other = linear_probe(x, y, -test_x, test_y, epochs=3)
    assert other["top1"] < found["top1"]
    assert [other[k] for k in ("learning_rate", "holdout_top1", "per_lr")] == [
        found[k] for k in ("learning_rate", "holdout_top1", "per_lr")
    ]


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    data = *clusters(300, 8, 12, 2.0, 1), *clusters(300, 8, 12, 2.0, 2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = linear_probe(*data, epochs=3, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert linear_probe(*data, epochs=3, seed=3) == first
    assert linear_probe(*data, epochs=3, seed=4) != first


def test_the_held_out_part_is_a_share_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 14 + [2] * 5 + [3] + [5] * 16)
    held = held_out(labels, 0.1, torch.Generator().manual_seed(0))
    counts = [int(held[labels == c].sum()) for c in (0, 1, 2, 3, 5)]
    assert counts == [5, 1, 1, 0, 2]  # of 5, 1.4, 0.5, 0.1 and 1.6 rows
    again = held_out(labels, 0.1, torch.Generator().manual_seed(0))
    other = held_out(labels, 0.1, torch.Generator().manual_seed(1))
    assert torch.equal(held, again) and not torch.equal(held, other)
    most = held_out(labels, 0.99, torch.Generator().manual_seed(0))
    assert all((~most)[labels == c].any() for c in (0, 1, 2, 3, 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rates": ()}, "learning_rates: got"),
        ({"learning_rates": (0.1, 0.0)}, "each above 0"),
        ({"learning_rates": (1e38, 2e38)}, "diverged, expected one that does not"),
        ({"epochs": 0}, "got epochs 0"),
        ({"holdout": 1.0}, "holdout 1.0"),
        ({"holdout": 0.01}, "holdout: got 0.01 of classes of at most 10 rows"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    x, y = clusters(40, 4, 6, 1.0, 1)
    with pytest.raises(ValueError, match=message):
        linear_probe(x, y, x, y, **({"epochs": 4, "batch_size": 8} | settings))


def test_bad_data_are_refused() -> None:
    x, y = clusters(40, 4, 6, 1.0, 1)
    bad = x.clone()
    bad[7, 2] = math.nan
    with pytest.raises(ValueError, match="test features: 1 of 40 rows hold NaN or inf"):
        linear_probe(x, y, bad, y)
    with pytest.raises(ValueError, match="train labels: 10 are negative"):
        linear_probe(x, y - 1, x, y)
    with pytest.raises(ValueError, match="query has 3 features and bank 6"):
        linear_probe(x, y, x[:, :3], y)


def test_a_loss_above_that_of_guessing_is_warned_of() -> None:
    assert divergence_warning(math.log(10) - 1e-6, 10, "--lr") == ""
    said = divergence_warning(10_000.0, 10, "--lr")
    assert "train_loss is 1e+04, and that of guessing among 10 classes is 2.3;" in said
    assert said.endswith("give a smaller --lr")


def test_the_training_loss_is_the_mean_cross_entropy_of_the_final_classifier() -> None:
    x, y = clusters(40, 4, 6, 1.0, 1)
    probe = linear_probe(x, y, x, y, epochs=30, batch_size=40)
    assert 0 < probe["train_loss"] < math.log(4)
    zero = LinearClassifiers(torch.zeros(6), torch.ones(6), torch.zeros(6, 2, 4), torch.zeros(2, 4))
    losses = mean_losses(zero, x, y, torch.arange(40))
    torch.testing.assert_close(losses, torch.full((2,), math.log(4)))
    one = zero.weight.clone()
    one[:, 1] = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found = mean_losses(replace(zero, weight=one), x, y, torch.arange(40))[1]
    torch.testing.assert_close(found, F.cross_entropy(x @ one[:, 1], y))


@pytest.mark.parametrize("unknown", [1, 3])
def test_a_class_that_train_lacks_is_wrong_wherever_its_number_stands(unknown: int) -> None:
    y = torch.arange(200) % 2 * 2  # the classes 0 and 2
    found = linear_probe(rows(200, 8, 1), y, rows(20, 8, 2), torch.full((20,), unknown), epochs=2)
    assert (found["top1"], found["top5"]) == (0, 0)
