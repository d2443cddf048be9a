"""MoCo's linear protocol: a frozen network stays as it was, and the layer learns as it should."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from mgd_ssl.data import Batch
from mgd_ssl.evaluation.features import Features
from mgd_ssl.evaluation.moco_linear import (
    EpochResult,
    _check_fit,
    assert_only_head_changed,
    head_accuracy,
    readable_loss,
    train_linear_classifier,
)
from mgd_ssl.settings.evaluation import LinearEvalConfig
from mgd_ssl.training.loop import seed_step
from mgd_ssl.training.schedules import LearningRate

FABRIC = Fabric(accelerator="cpu", devices=1)


class Batches(list[Batch]):
    """The same batches in every epoch."""

    epochs: list[int]

    def set_position(self, epoch: int, start_step: int = 0) -> None:
        self.epochs = [*getattr(self, "epochs", []), epoch]


def loader(seed: int, batches: int = 4, size: int = 15, classes: int = 3) -> Batches:
    """Images that are brightest in the channel of their class."""
    generator = torch.Generator().manual_seed(seed)
    found = Batches()
    for b in range(batches):
        labels = torch.arange(size) % classes
        images = torch.randint(0, 120, (size, 3, 6, 6), generator=generator)
        images[torch.arange(size), labels % 3] += 100
        none = torch.full((size,), -1)
        found.append(Batch(images.byte(), labels, torch.arange(size) + b * size, none))
    return found


def backbone() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
    return network.train()


def normalize(images: Tensor) -> Tensor:
    return images.float() / 255 - 0.5


def random_flip(images: Tensor) -> Tensor:
    noise = torch.rand(len(images), 1, 1, 1)
    return normalize(torch.where(noise < 0.5, images.flip(3), images)) * (1 + noise)


def steps(base: float, epochs: int, *milestones: int) -> LearningRate:
    return LearningRate(base, epochs, "steps", milestones)


SHORT = steps(30, 4, 2, 3)


def run(
    rate: LearningRate,
    network: nn.Module | None = None,
    batches: Batches | None = None,
    seed: int = 0,
    train_transform: Callable[[Tensor], Tensor] = random_flip,
) -> tuple[list[EpochResult], nn.Linear]:
    head = nn.Linear(8, 3)
    results = train_linear_classifier(
        network or backbone(),
        head,
        batches or loader(1),
        loader(2),
        rate,
        fabric=FABRIC,
        train_transform=train_transform,
        val_transform=normalize,
        seed=seed,
    )
    return results, head


def test_the_recipe_is_mocos() -> None:
    config = LinearEvalConfig(checkpoint=Path("last.pt"))
    assert (config.epochs, config.weight_decay) == (100, 0.0)
    rate = steps(config.lr, config.epochs, *config.schedule)
    rates = [rate(epoch, 0, 1) for epoch in (0, 59, 60, 79, 80, 99)]
    assert rates == pytest.approx([30, 30, 3, 3, 0.3, 0.3])


def test_the_layer_learns_and_nothing_else_changes() -> None:
    network = backbone()
    before = {name: entry.clone() for name, entry in network.state_dict().items()}
    results, _ = run(steps(30, 20, 12, 16), network)
    assert [row["epoch"] for row in results] == list(range(1, 21))
    rates = [row["learning_rate"] for row in results]
    assert rates == pytest.approx([30] * 12 + [3] * 4 + [0.3] * 4)
    assert results[-1]["top1"] > 95 and results[-1]["top5"] == 100
    assert results[-1]["train_loss"] < results[0]["train_loss"]
    assert all(torch.equal(entry, before[name]) for name, entry in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_layer_is_that_of_plain_sgd_on_eval_features() -> None:
    results, head = run(steps(0.5, 3, 1), seed=7)
    network = backbone().eval()
    weight = torch.empty(3, 8).normal_(0, 0.01, generator=torch.Generator().manual_seed(7))
    weight, bias = weight.double(), torch.zeros(3, dtype=torch.float64)
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for epoch in range(3):
        losses = []
        for step, batch in enumerate(loader(1)):
            seed_step(7, epoch, step)
            with torch.no_grad():
                x = network(random_flip(batch.images)).mean(dim=(2, 3)).double()
            logits = x @ weight.T + bias
            losses.append(float(F.cross_entropy(logits, batch.labels)))
            slope = (logits.softmax(dim=1) - F.one_hot(batch.labels, 3)) / len(x)
            velocity = [0.9 * velocity[0] + slope.T @ x, 0.9 * velocity[1] + slope.sum(dim=0)]
            rate = 0.5 if epoch < 1 else 0.05
            weight, bias = weight - rate * velocity[0], bias - rate * velocity[1]
        assert results[epoch]["train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    torch.testing.assert_close(head.weight.detach().double(), weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.bias.detach().double(), bias, atol=1e-5, rtol=1e-4)


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    network, rate = backbone(), steps(0.1, 1)
    _, first = run(rate, network, seed=3)
    torch.manual_seed(99)
    nn.Linear(8, 3)  # as `run` draws one
    after = torch.get_rng_state()
    torch.manual_seed(99)
    _, again = run(rate, network, seed=3)
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(again.weight, first.weight)
    _, other = run(rate, network, seed=4)
    assert not torch.equal(other.weight, first.weight)


def test_images_that_failed_are_left_out() -> None:
    batches, spoiled = loader(1), loader(1)
    kept = torch.arange(15) >= 5
    smaller = Batches(Batch(*(part[kept] for part in batch[:4])) for batch in batches)
    for i, batch in enumerate(spoiled):
        failed = torch.where(kept, -1, batch.indices)
        spoiled[i] = batch._replace(failed=failed, labels=torch.where(kept, batch.labels, -1))
    network = backbone()
    expected, _ = run(SHORT, network, smaller, train_transform=normalize)
    found, _ = run(SHORT, network, spoiled, train_transform=normalize)
    assert len(found) == 4
    for one, two in zip(found, expected, strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_a_batch_without_a_readable_image_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    readable_loss(logits, torch.tensor([0, 1]), torch.tensor([5, 6])).backward()
    assert logits.grad is not None and logits.grad.abs().max() == 0


def test_the_loader_is_told_the_epoch() -> None:
    batches = loader(1)
    run(SHORT, batches=batches)
    assert batches.epochs == [0, 1, 2, 3]


def test_a_network_that_changes_itself_is_found_out() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = backbone()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            return self.body(x)

    with pytest.raises(RuntimeError, match=r"1 entries besides fc .* among them seen"):
        run(SHORT, Counting())


def test_only_entries_of_the_head_may_differ() -> None:
    network = nn.ModuleDict({"body": nn.BatchNorm2d(2), "fc": nn.Linear(2, 2)})
    before = {name: entry.clone() for name, entry in network.state_dict().items()}
    nn.init.ones_(network["fc"].weight)
    assert_only_head_changed(before, network)
    assert_only_head_changed({k: v for k, v in before.items() if "fc" not in k}, network)
    network["body"].running_mean += 1e-7
    with pytest.raises(RuntimeError, match=r"among them body\.running_mean"):
        assert_only_head_changed(before, network)
    with pytest.raises(RuntimeError, match=r"2 entries besides body .*fc\.bias, fc\.weight"):
        assert_only_head_changed({"body.weight": before["body.weight"]}, network, "body")


def test_accuracy_of_a_layer_by_hand() -> None:
    head = nn.Linear(6, 6, bias=False)
    nn.init.eye_(head.weight)
    x = torch.tensor([[5.0, 4, 3, 2, 1, 0]]).repeat(4, 1)
    assert head_accuracy(head, x, torch.tensor([0, 4, 5, 3])) == {"top1": 25.0, "top5": 75.0}


def validation(dims: int, labels: Tensor) -> Features:
    return Features(torch.zeros(len(labels), dims), labels, torch.arange(len(labels)), 0)


def test_bad_problems_are_refused() -> None:
    head, labels = nn.Linear(8, 3), torch.tensor([0, 3])
    with pytest.raises(ValueError, match="takes 8 features and 3 classes, got 8 features and cl"):
        _check_fit(head, validation(8, labels))
    with pytest.raises(ValueError, match="got 5 features"):
        _check_fit(head, validation(5, labels // 3))
    with pytest.raises(ValueError, match="validation labels: 1 are negative"):
        _check_fit(head, validation(8, labels - 1))
    with pytest.raises(ValueError, match="lr: got 0"):
        steps(0, 3)


def test_a_loss_that_is_not_finite_names_the_step_and_the_remedy() -> None:
    def spoil(images: Tensor) -> Tensor:
        return normalize(images) * 1e30

    with pytest.raises(ValueError, match=r"epoch 1, step \d: .*not finite.*; take a smaller learn"):
        run(steps(1e30, 3), train_transform=spoil)


def test_a_signal_stops_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(images: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGTERM)
        return normalize(images)

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(SHORT, train_transform=stop)
    assert stopped.value.signum == signal.SIGTERM
