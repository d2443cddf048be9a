"""MoCo's linear classification protocol: random crops, a frozen backbone, one trained layer."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mgd_ssl.data import Batch
from mgd_ssl.evaluation.accuracy import within_top
from mgd_ssl.evaluation.features import Transform, collect_features
from mgd_ssl.evaluation.inputs import as_labels
from mgd_ssl.models import evaluating, pool


@dataclass(frozen=True)
class LinearConfig:
    """MoCo's recipe; He et al., Momentum Contrast, CVPR 2020, section 4.1.

    SGD; its ``learning_rate``, for a batch of 256, is multiplied by ``gamma`` each time that
    as many epochs as a milestone says are done. ``seed`` is that of the layer's first weights
    and of the random crops. A setting out of range raises a ValueError.
    """

    epochs: int = 100
    learning_rate: float = 30.0
    milestones: tuple[int, ...] = (60, 80)
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.learning_rate <= 0 or self.gamma <= 0:
            raise ValueError(
                f"got epochs {self.epochs}, learning_rate {self.learning_rate}, gamma "
                f"{self.gamma}; expected 1 or more, above 0 and above 0"
            )
        if not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise ValueError(
                f"got momentum {self.momentum}, weight_decay {self.weight_decay}; expected one "
                "in [0,1) and 0 or more"
            )

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.learning_rate * self.gamma ** sum(epoch >= m for m in self.milestones)


class EpochResult(TypedDict):
    """After an epoch (from 1): mean training loss, and validation accuracy in percent."""

    epoch: int
    learning_rate: float
    train_loss: float
    top1: float
    top5: float


def train_linear_classifier(
    network: nn.Module,
    head: nn.Linear,
    loader: Iterable[Batch],
    val_loader: Iterable[Batch],
    config: LinearConfig,
    *,
    train_transform: Transform,
    val_transform: Transform,
    device: torch.device | str,
    on_epoch: Callable[[EpochResult], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[EpochResult]:
    """Train ``head`` on a frozen network and measure it after each epoch.

    The network stays in eval mode, so its batch norms use and keep their running statistics; it
    gets no gradient, and at the end every entry of its state is compared with what it was. The
    head starts from N(0, 0.01) and 0. Validation features do not change from epoch to epoch and
    are taken once. Images that could not be decoded are left out.

    The random crops of a step depend on seed, epoch and step alone, and torch's global generators
    are put back after each. The last result is the protocol's figure: choosing the best epoch
    would choose by the validation images.

    Args:
        network: images to features (B,D) or (B,D,H,W), on the device, without the head.
        head: D inputs, a class an output; on the device, changed in place.
        loader: labelled batches; told each epoch by ``set_position`` where it has that.
        val_loader: labelled batches.
        config: the recipe.
        train_transform: uint8 images on the device to normalised random crops and flips.
        val_transform: uint8 images on the device to normalised ones, nothing random.
        device: of network and head.
        on_epoch: called with each result.
        progress: called with the number of images of each training batch.

    Returns:
        One result an epoch.

    Raises:
        ValueError: no image, a label that is unknown or that the head lacks, sizes of features
            and head that differ, or a loss that is not finite.
        RuntimeError: the network changed.
    """
    before = {name: entry.detach().clone() for name, entry in network.state_dict().items()}
    val = collect_features(network, val_loader, transform=val_transform, device=device)
    as_labels("validation", val.labels, val.features)
    _start(head, config.seed)
    optimizer = torch.optim.SGD(
        head.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    results: list[EpochResult] = []
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = rate = config.rate(epoch)
        labelled = _features_of_epoch(network, loader, train_transform, device, config.seed, epoch)
        loss = _train_epoch(head, optimizer, labelled, epoch, progress)
        top1, top5 = head_accuracy(head, val.features, val.labels)
        results.append(
            EpochResult(epoch=epoch + 1, learning_rate=rate, train_loss=loss, top1=top1, top5=top5)
        )
        if on_epoch is not None:
            on_epoch(results[-1])
    assert_only_head_changed(before, network)
    return results


def _start(head: nn.Linear, seed: int) -> None:
    first = torch.empty(head.weight.shape)
    first.normal_(0.0, 0.01, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        head.weight.copy_(first)
        if head.bias is not None:
            head.bias.zero_()


def _features_of_epoch(
    network: nn.Module,
    loader: Iterable[Batch],
    transform: Transform,
    device: torch.device | str,
    seed: int,
    epoch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (B,D) of random crops, and labels (B,), both on the device."""
    set_position = getattr(loader, "set_position", None)
    if set_position is not None:
        set_position(epoch)
    for step, batch in enumerate(loader):
        kept = batch.failed < 0
        images = batch.images[kept].to(device, non_blocking=True)
        if not len(images):
            continue
        with evaluating(network), torch.no_grad(), seeded(seed, epoch, step):
            features = pool(network(transform(images))).float()
        yield features, batch.labels[kept].to(device)


def _train_epoch(
    head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    labelled: Iterable[tuple[Tensor, Tensor]],
    epoch: int,
    progress: Callable[[int], None] | None,
) -> float:
    """Mean loss over the epoch's images."""
    total, images = 0.0, 0
    for step, (features, labels) in enumerate(labelled):
        _check_fit(head, features, labels)
        loss = F.cross_entropy(head(features), labels)
        if not math.isfinite(value := loss.item()):
            raise ValueError(
                f"cross-entropy: got {value} at epoch {epoch + 1}, step {step + 1}; expected a "
                "finite loss: take a smaller learning rate (--lr), or look for a diverged network"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, images = total + value * len(labels), images + len(labels)
        if progress is not None:
            progress(len(labels))
    if not images:
        raise ValueError("loader: got no image to train on, expected at least one batch")
    return total / images


def _check_fit(head: nn.Linear, features: Tensor, labels: Tensor) -> None:
    as_labels("train", labels, features)
    if features.shape[1] != head.in_features or int(labels.max()) >= head.out_features:
        raise ValueError(
            f"head: takes {head.in_features} features and {head.out_features} classes, got "
            f"{features.shape[1]} features and class {int(labels.max())}; make it of the "
            "network's features and the data's classes"
        )


@contextmanager
def seeded(seed: int, epoch: int, step: int) -> Iterator[None]:
    """Seed torch's global generators for one step, and put them back afterwards."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):
        torch.manual_seed(((seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63)
        yield


@torch.no_grad()
def head_accuracy(
    head: nn.Linear, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> tuple[float, float]:
    """Top-1 and top-5 in percent of a layer on features (N,D) of any device, by blocks."""
    right = torch.zeros(2, dtype=torch.int64)
    for x, y in zip(torch.split(features, 8192), torch.split(labels, 8192), strict=True):
        logits = head(x.to(head.weight.device))
        right += within_top(logits.cpu(), y.cpu()).sum(dim=0)
    top1, top5 = (100 * right.double() / len(labels)).tolist()
    return top1, top5


def assert_only_head_changed(
    before: Mapping[str, Tensor], network: nn.Module, head: str = "fc"
) -> None:
    """Raise unless every entry of the network's state, buffers too, is as it was.

    Args:
        before: copies of the entries, or a checkpoint's.
        network: what training left.
        head: name of the module whose entries may differ.

    Raises:
        RuntimeError: entries changed, appeared or went; the first few by name.
    """
    after = network.state_dict()
    changed = [
        name
        for name in sorted(before.keys() | after.keys())
        if not name.startswith(f"{head}.")
        and not (name in before and name in after and _equal(before[name], after[name]))
    ]
    if changed:
        raise RuntimeError(
            f"{len(changed)} entries besides {head} differ from before training, among them "
            f"{', '.join(changed[:5])}; expected none: the figure is not a linear probe's"
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.to(b.device), b)
