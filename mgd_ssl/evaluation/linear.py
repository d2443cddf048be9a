"""Linear probe on cached features, at many learning rates at once."""

import math
from collections.abc import Sequence
from typing import TypedDict

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mgd_ssl.evaluation.classifiers import (
    LinearClassifiers,
    accuracies,
    mean_losses,
    train_classifiers,
)
from mgd_ssl.evaluation.inputs import (
    Array,
    as_count,
    as_features,
    as_labels,
    check_finite,
    check_pair,
    numbered,
)
from mgd_ssl.settings.evaluation import LEARNING_RATES


class RateResult(TypedDict):
    """A learning rate's accuracy on the held-out part, in percent; 0 if it diverged."""

    learning_rate: float
    holdout_top1: float
    diverged: bool


class ProbeResult(TypedDict):
    """Accuracies in percent, and the final classifier's loss on train; see `linear_probe`."""

    top1: float
    top5: float
    learning_rate: float
    train_loss: float
    holdout_top1: float
    per_lr: list[RateResult]


def linear_probe(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    epochs: int = 100,
    batch_size: int = 256,
    weight_decay: float = 0.0,
    holdout: float = 0.1,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a linear classifier on frozen features.

    A classifier for each learning rate is trained on train without a held-out part (``holdout``
    of each class), all of them at once. The rate with the best accuracy on that part, the smallest
    of equals, trains one classifier on all of train, which gives the test figures: the test rows
    choose nothing.

    Features are standardized to mean 0 and standard deviation 1 over the rows trained on; constant
    ones become 0. Training is SGD with momentum 0.9 on the cross-entropy. Weights and biases start
    from 0, the rate falls to 0 along a cosine over the steps, and the last partial batch is kept.
    The same seed gives the same figures; torch's global generator is left as it was.

    Args:
        train_features: (M,D).
        train_labels: classes (M,), whole numbers from 0, of any type.
        test_features: (Q,D).
        test_labels: classes (Q,); those that train lacks count as wrong.
        learning_rates: to choose from, for a loss averaged over the batch, each above 0.
        epochs: passes over train, 1 or more.
        batch_size: rows in a step, 1 or more.
        weight_decay: of SGD, on weights and not on biases, 0 or more.
        holdout: share of each class held out of train, in (0,1).
        seed: of the held-out part and of the order of rows.

    Returns:
        Test ``top1`` and ``top5``, the chosen ``learning_rate``, the final classifier's mean
        cross-entropy ``train_loss``, the rate's ``holdout_top1``, and ``per_lr`` for every rate,
        in ascending order.

    Raises:
        ValueError: features and labels do not fit, a setting is out of range, there are too few
            rows to hold any out, or every learning rate diverged.
    """
    x, x_test = as_features("train", train_features), as_features("test", test_features)
    x, x_test = x.float(), x_test.float()
    check_pair(x_test, x)
    y, y_test = as_labels("train", train_labels, x), as_labels("test", test_labels, x_test)
    for name, features in (("train features", x), ("test features", x_test)):
        check_finite(name, features)
    y, y_test = numbered(y, y_test)
    epochs, batch_size = as_count("epochs", epochs), as_count("batch_size", batch_size)
    _check_settings(learning_rates, epochs, batch_size, weight_decay, holdout)
    device, rates = x.device, sorted(learning_rates)
    generator = torch.Generator().manual_seed(seed)
    held = held_out(y.cpu(), holdout, generator).to(device)

    def fit(rows: Tensor, rates: Sequence[float]) -> LinearClassifiers:
        return train_classifiers(
            x,
            y,
            rows,
            rates,
            epochs=epochs,
            batch_size=batch_size,
            weight_decay=weight_decay,
            generator=generator,
        )

    (kept,), (part,) = (~held).nonzero(as_tuple=True), held.nonzero(as_tuple=True)
    scores = accuracies(fit(kept, rates), x, y, part)
    per_lr = _per_rate(rates, scores[:, 0].tolist())
    best = max(per_lr, key=lambda row: row["holdout_top1"])  # the first, smallest, of equals
    all_rows = torch.arange(len(held), device=device)
    final = fit(all_rows, [best["learning_rate"]])
    top1, top5 = accuracies(final, x_test, y_test, torch.arange(len(y_test), device=device))[0]
    loss = mean_losses(final, x, y, all_rows)[0]
    if not loss.isfinite():
        raise ValueError(
            f"learning_rates: {best['learning_rate']} was the best of {tuple(rates)} on the "
            "held-out part but diverged on all of train, expected one that does not: give smaller "
            "ones"
        )
    return ProbeResult(
        top1=float(top1),
        top5=float(top5),
        learning_rate=best["learning_rate"],
        train_loss=float(loss),
        holdout_top1=best["holdout_top1"],
        per_lr=per_lr,
    )


def divergence_warning(train_loss: float, classes: int, option: str) -> str:
    """A warning if a classifier is worse than guessing on its training images, else empty.

    Args:
        train_loss: its mean cross-entropy on them at the end.
        classes: their number of classes.
        option: that lowers the learning rate.
    """
    guessing = math.log(classes)
    if train_loss <= guessing:
        return ""
    return (
        f"the classifier diverged: its final train_loss is {train_loss:.4g}, and that of guessing "
        f"among {classes} classes is {guessing:.3g}; its accuracy says little about the features: "
        f"give a smaller {option}"
    )


def held_out(
    labels: Int[Tensor, " m"], share: float, generator: torch.Generator
) -> Bool[Tensor, " m"]:
    """A random share of each class, rounded to whole rows (halves up), never all of a class.

    Args:
        labels: (M,), on the generator's device.
        share: in (0,1).
        generator: of the choice.

    Raises:
        ValueError: no row would be held out.
    """
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # by class, at random within it
    counts = labels.bincount()
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    quota = (counts * share + 0.5).long().minimum(counts - 1)
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[order] = place < quota[labels[order]]
    if not held.any():
        raise ValueError(
            f"holdout: got {share} of classes of at most {int(counts.max())} rows, which is less "
            "than a row; expected a larger share or more rows"
        )
    return held


def _per_rate(rates: Sequence[float], top1: Sequence[float]) -> list[RateResult]:
    rows = [
        RateResult(
            learning_rate=r, holdout_top1=0.0 if math.isnan(a) else a, diverged=math.isnan(a)
        )
        for r, a in zip(rates, top1, strict=True)
    ]
    if all(row["diverged"] for row in rows):
        raise ValueError(
            f"learning_rates: all of {tuple(rates)} diverged, expected one that does not: "
            "add smaller ones"
        )
    return rows


def _check_settings(
    learning_rates: Sequence[float],
    epochs: int,
    batch_size: int,
    weight_decay: float,
    holdout: float,
) -> None:
    if not learning_rates or min(learning_rates) <= 0:
        raise ValueError(
            f"learning_rates: got {tuple(learning_rates)}, expected at least one, each above 0"
        )
    if epochs < 1 or batch_size < 1 or weight_decay < 0 or not 0 < holdout < 1:
        raise ValueError(
            f"got epochs {epochs}, batch_size {batch_size}, weight_decay {weight_decay}, holdout "
            f"{holdout}; expected 1 or more, 1 or more, 0 or more, and between 0 and 1"
        )
