"""Linear classifiers trained at once on the same features, one for each learning rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mgd_ssl.evaluation.accuracy import within_top
from mgd_ssl.progress import tracked
from mgd_ssl.training.schedules import LearningRate

MOMENTUM = 0.9
# Rows processed at once for statistics and accuracies; a step processes its batch.
ROW_BLOCK = 8192


@dataclass(frozen=True)
class LinearClassifiers:
    """L classifiers of K classes on standardized features.

    Attributes:
        shift: (D,), subtracted from the features.
        factor: (D,), the difference is multiplied by it.
        weight: (D,L,K).
        bias: (L,K).
    """

    shift: Float[Tensor, " d"]
    factor: Float[Tensor, " d"]
    weight: Float[Tensor, "d l k"]
    bias: Float[Tensor, "l k"]

    def standardize(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Features (N,D) standardized for the classifiers, float32."""
        return (x.float() - self.shift) * self.factor

    def logits(self, standardized: Float[Tensor, "n d"]) -> Float[Tensor, "n l k"]:
        """Standardized features (N,D) -> logits (N,L,K)."""
        products = standardized @ self.weight.flatten(1)
        return products.view(-1, *self.bias.shape) + self.bias


@torch.no_grad()
def train_classifiers(
    features: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    rows: Int[Tensor, " r"],
    learning_rates: Sequence[float],
    *,
    epochs: int,
    batch_size: int,
    weight_decay: float,
    generator: torch.Generator,
) -> LinearClassifiers:
    """Train a classifier for each learning rate by SGD on the cross-entropy, all at once.

    The classifiers share nothing but the batches: one that diverges holds NaN and does not affect
    the others. Momentum is 0.9, weights and biases start from 0, each rate falls to 0 along a
    cosine over the steps, and weight decay applies to weights, not to biases.

    Args:
        features: (M,D), finite.
        labels: classes (M,), 0 or more.
        rows: indices (R,) of the rows to train on.
        learning_rates: L of them.
        epochs: passes over the rows.
        batch_size: rows in a step; the last partial batch is kept.
        weight_decay: of SGD.
        generator: of the order of rows, on the CPU.
    """
    device = features.device
    shift, factor = standardization(features, rows)
    count, classes = len(learning_rates), 1 + int(labels.max())
    weight = torch.zeros(features.shape[1], count, classes, device=device)
    bias = torch.zeros(count, classes, device=device)
    found = LinearClassifiers(shift, factor, weight, bias)
    optimizer = torch.optim.SGD([weight, bias], momentum=MOMENTUM)
    rates = torch.tensor(learning_rates, device=device)[:, None]
    steps = math.ceil(len(rows) / batch_size)
    fall = LearningRate(1.0, epochs)
    batches = _batches(rows, batch_size, epochs, generator)
    what = f"linear probe, {count} learning rate{'s' if count > 1 else ''}"
    for step, batch in enumerate(tracked(batches, what, steps * epochs, "steps")):
        # A classifier's rate is a factor of its gradient; SGD's own rate is the common cosine.
        weight.grad, bias.grad = _gradient(found, found.standardize(features[batch]), labels[batch])
        weight.grad.add_(weight, alpha=weight_decay).mul_(rates)
        bias.grad.mul_(rates)
        optimizer.param_groups[0]["lr"] = fall(step // steps, step % steps, steps)
        optimizer.step()
    return found


def _gradient(
    classifiers: LinearClassifiers, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "d l k"], Float[Tensor, "l k"]]:
    """Gradient of each classifier's mean cross-entropy, in closed form.

    At the logits it is softmax - one-hot. Autograd takes 1.3 to 1.4 times as long.
    """
    slope = classifiers.logits(x).softmax(dim=2)
    slope -= F.one_hot(y, slope.shape[2])[:, None]
    slope /= len(x)
    return (x.T @ slope.flatten(1)).view_as(classifiers.weight), slope.sum(dim=0)


def _batches(rows: Tensor, size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        yield from torch.split(rows[order], size)


def standardization(
    features: Float[Tensor, "m d"], rows: Int[Tensor, " r"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and 1 / standard deviation of each feature over some rows.

    A feature whose deviation is under 1e-5 of its root mean square is constant but for rounding:
    its factor is 0.

    Args:
        features: (M,D).
        rows: (R,).

    Returns:
        Shift and factor, (D,) float32, from float64 sums.
    """
    blocks = torch.split(rows, ROW_BLOCK)
    mean = torch.stack([features[b].double().sum(dim=0) for b in blocks]).sum(dim=0) / len(rows)
    squares = [(features[b].double() - mean).square().sum(dim=0) for b in blocks]
    variance = torch.stack(squares).sum(dim=0) / len(rows)
    varies = variance > 1e-10 * (variance + mean.square())
    return mean.float(), torch.where(varies, variance.rsqrt(), 0.0).float()


@torch.no_grad()
def accuracies(
    classifiers: LinearClassifiers,
    features: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    rows: Int[Tensor, " r"],
) -> Float[Tensor, "l 2"]:
    """Top-1 and top-5 of each classifier over some rows, in percent; NaN if it diverged.

    Args:
        classifiers: L of them, K classes.
        features: (M,D).
        labels: classes (M,); those that the classifiers lack count as wrong.
        rows: (R,).
    """
    count = len(classifiers.bias)
    right = torch.zeros(count, 2, dtype=torch.int64, device=features.device)
    for block in torch.split(rows, max(1, ROW_BLOCK // count)):
        logits = classifiers.logits(classifiers.standardize(features[block]))
        right += within_top(logits, labels[block, None]).sum(dim=0)
    # NaN counts as the largest logit, so figures of a diverged classifier mean nothing.
    sound = classifiers.weight.isfinite().all(dim=2).all(dim=0)
    sound &= classifiers.bias.isfinite().all(dim=1)
    return torch.where(sound[:, None], 100 * right.double() / len(rows), torch.nan)


@torch.no_grad()
def mean_losses(
    classifiers: LinearClassifiers,
    features: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    rows: Int[Tensor, " r"],
) -> Float[Tensor, " l"]:
    """Mean cross-entropy of each classifier over some rows; NaN if it diverged.

    Args:
        classifiers: L of them, K classes.
        features: (M,D).
        labels: classes (M,), below K.
        rows: (R,).
    """
    count = len(classifiers.bias)
    total = torch.zeros(count, device=features.device)
    for block in torch.split(rows, max(1, ROW_BLOCK // count)):
        logits = classifiers.logits(classifiers.standardize(features[block])).movedim(1, 2)
        truth = labels[block, None].expand(-1, count)
        total += F.cross_entropy(logits, truth, reduction="none").sum(dim=0)
    return total / len(rows)
