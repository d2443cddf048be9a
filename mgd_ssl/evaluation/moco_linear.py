"""MoCo's linear classification protocol: random crops, a frozen backbone, one trained layer."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mgd_ssl.data import Batch
from mgd_ssl.errors import Interrupted, NonFiniteLossError
from mgd_ssl.evaluation.accuracy import within_top
from mgd_ssl.evaluation.features import Features, Transform, collect_features
from mgd_ssl.evaluation.inputs import as_labels
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import evaluating, pool
from mgd_ssl.training.loop import Loader, LoopConfig, fit
from mgd_ssl.training.schedules import LearningRate

MOMENTUM = 0.9
FEATURE_BLOCK = 8192  # validation features that are classified at once
IGNORED = -100  # label of an image that could not be decoded


class EpochResult(TypedDict):
    """After an epoch (from 1): mean training loss, and validation accuracy in percent."""

    epoch: int
    learning_rate: float
    train_loss: float
    top1: float
    top5: float


class _EpochWriter:
    """Keeps the training loop's metrics of each epoch."""

    def __init__(self) -> None:
        self.results: list[EpochResult] = []

    def write(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Add the metrics of an epoch."""
        kept = {name: metrics[name] for name in ("train_loss", "top1", "top5")}
        row = {"epoch": round(epoch), "learning_rate": metrics["lr"], **kept}
        self.results.append(cast(EpochResult, row))


def train_linear_classifier(
    network: nn.Module,
    head: nn.Linear,
    loader: Loader,
    val_loader: Iterable[Batch],
    learning_rate: LearningRate,
    *,
    fabric: Fabric,
    train_transform: Transform,
    val_transform: Transform,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> list[EpochResult]:
    """Train ``head`` on a frozen network and measure it after each epoch.

    SGD with momentum 0.9 on the cross-entropy. The network stays in eval mode, so its batch norms
    use and keep their running statistics; it gets no gradient, and at the end every entry of its
    state is compared with what it was. The head starts from N(0, 0.01) and 0. Validation features
    are the same in every epoch and are computed once. Images that could not be decoded are left
    out. He et al., Momentum Contrast, CVPR 2020, section 4.1.

    The random crops of a step depend on the seed, the epoch and the step alone, and torch's global
    generators are left as they were. The last result is the protocol's figure: choosing the best
    epoch would choose by the validation images.

    Args:
        network: images to features (B,D) or (B,D,H,W), on the device, without the head.
        head: D inputs and an output for each class; on the device, changed in place.
        loader: labeled training batches.
        val_loader: labeled batches.
        learning_rate: the schedule, and with it the number of epochs.
        fabric: the device and its precision.
        train_transform: uint8 images on the device to normalized random crops and flips.
        val_transform: uint8 images on the device to normalized ones, nothing random.
        weight_decay: of the layer.
        seed: of the layer's first weights and of the random crops.

    Returns:
        One result for each epoch.

    Raises:
        ValueError: a validation label is unknown or the head has no output for it, the head does
            not take the network's features, or a loss is not finite.
        RuntimeError: the network changed.
        KeyboardInterrupt: a signal asked to stop.
    """
    before = {name: entry.detach().clone() for name, entry in network.state_dict().items()}
    val = collect_features(network, val_loader, transform=val_transform, device=fabric.device)
    _check_fit(head, val)
    _reset(head, seed)
    optimizer = torch.optim.SGD(
        head.parameters(), learning_rate.base, momentum=MOMENTUM, weight_decay=weight_decay
    )
    writer = _EpochWriter()

    def step(batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            features = pool(network(train_transform(batch.images))).float()
        return {"cross_entropy": readable_loss(head(features), batch.labels, batch.failed)}

    with evaluating(network), torch.random.fork_rng(range(torch.cuda.device_count())):
        _fit(
            step,
            loader,
            fabric.setup_optimizers(optimizer),
            LoopConfig(learning_rate.epochs, seed),
            fabric=fabric,
            learning_rate=learning_rate,
            save=lambda _: None,
            after_epoch=lambda _: head_accuracy(head, val.features, val.labels),
            writer=writer,
        )
    assert_only_head_changed(before, network)
    return writer.results


def _check_fit(head: nn.Linear, val: Features) -> None:
    as_labels("validation", val.labels, val.features)
    features, largest = val.features.shape[1], int(val.labels.max())
    if features != head.in_features or largest >= head.out_features:
        raise ValueError(
            f"head: takes {head.in_features} features and {head.out_features} classes, got "
            f"{features} features and class {largest}; make it for the network's features and the "
            "data's classes"
        )


def _reset(head: nn.Linear, seed: int) -> None:
    first = torch.empty(head.weight.shape)
    first.normal_(0.0, 0.01, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        head.weight.copy_(first)
        if head.bias is not None:
            head.bias.zero_()


def readable_loss(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], failed: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the images that could be decoded; 0 if none could.

    Args:
        logits: of the images.
        labels: their classes.
        failed: negative for images that could be decoded.
    """
    known = labels.where(failed < 0, IGNORED)
    total = F.cross_entropy(logits, known, ignore_index=IGNORED, reduction="sum")
    return total / (failed < 0).sum().clamp(min=1)


def _fit(*args: Any, **options: Any) -> None:
    """Run the training loop; nothing is saved, so a stopped run cannot be resumed."""
    try:
        fit(*args, **options)
    except NonFiniteLossError as error:
        where = str(error).partition(";")[0]
        raise ValueError(
            f"{where}; take a smaller learning rate (--lr), or look for a diverged network"
        ) from error
    except Interrupted as stop:
        interrupt = KeyboardInterrupt(str(stop))
        interrupt.signum = stop.signum  # type: ignore[attr-defined]  # the command's exit status
        raise interrupt from None


@torch.no_grad()
def head_accuracy(
    head: nn.Linear, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> dict[str, float]:
    """Top-1 and top-5 of a layer in percent, on features on any device."""
    right = torch.zeros(2, dtype=torch.int64)
    blocks = (torch.split(x, FEATURE_BLOCK) for x in (features, labels))
    for x, y in zip(*blocks, strict=True):
        right += within_top(head(x.to(head.weight.device)).cpu(), y.cpu()).sum(dim=0)
    top1, top5 = (100 * right.double() / len(labels)).tolist()
    return {"top1": top1, "top5": top5}


def assert_only_head_changed(
    before: Mapping[str, Tensor], network: nn.Module, head: str = "fc"
) -> None:
    """Raise an error unless every entry of the network's state, buffers too, is as it was.

    Args:
        before: copies of the entries, or a checkpoint's.
        network: after training.
        head: name of the module whose entries may differ.

    Raises:
        RuntimeError: entries changed, appeared or disappeared; names the first few.
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
            f"{', '.join(changed[:5])}; expected none: the figure is not that of a linear probe"
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.to(b.device), b)
