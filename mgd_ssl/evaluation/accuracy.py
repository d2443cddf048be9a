"""Top-1 and top-5 accuracy of a classifier."""

from collections.abc import Iterable
from typing import TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import Batch
from mgd_ssl.evaluation.features import Transform
from mgd_ssl.models import evaluating
from mgd_ssl.progress import tracked_batches


class Accuracy(TypedDict):
    """Top-1 and top-5 in percent, and the number of images."""

    top1: float
    top5: float
    images: int


def within_top(scores: Float[Tensor, "*n k"], labels: Int[Tensor, "*m"]) -> Bool[Tensor, "*n 2"]:
    """Whether the class has the largest score, and whether it is among the five largest.

    Args:
        scores: of K classes.
        labels: classes; of the shape (N...), or one that broadcasts to it.
    """
    top = scores.topk(min(5, scores.shape[-1]), dim=-1).indices == labels[..., None]
    return torch.stack([top[..., 0], top.any(dim=-1)], dim=-1)


@torch.no_grad()
def classifier_accuracy(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
) -> Accuracy:
    """Accuracy over the images of all processes; images that cannot be decoded are left out.

    Args:
        network: (B,3,H,W) -> (B,K) logits, on the device; with fewer than five classes every
            image is within the top 5.
        loader: labeled batches of this process.
        transform: uint8 images on the device to normalized ones.
        device: of the network.

    Raises:
        ValueError: there is no image, or a label for which the classifier has no output.
    """
    hits = distributed.together(lambda: _count(network, loader, transform, device))
    top1, top5, images = distributed.all_reduce_sum(hits).tolist()
    if images == 0:
        raise ValueError("accuracy: got no image that can be decoded, expected one or more")
    return Accuracy(top1=100 * top1 / images, top5=100 * top5 / images, images=images)


def _count(
    network: nn.Module,
    loader: Iterable[Batch],
    transform: Transform,
    device: torch.device | str,
) -> Tensor:
    """Numbers of images of this process (3,): right, right within the top five, all."""
    hits = torch.zeros(3, dtype=torch.int64, device=device)
    with evaluating(network):
        for batch in tracked_batches(loader, "accuracy"):
            kept = batch.failed < 0  # a batch of none would be too small for some networks
            logits = network(transform(batch.images.to(device, non_blocking=True)))
            labels = batch.labels[kept]
            _check(labels, logits.shape[1])
            hits[:2] += within_top(logits[kept.to(device)], labels.to(device)).sum(dim=0)
            hits[2] += len(labels)
    return hits


def _check(labels: Tensor, classes: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"accuracy: got labels {int(labels.min())} to {int(labels.max())}, expected 0 to "
            f"{classes - 1}, the classifier's outputs; give it the classes of this data"
        )
