"""Top-1 and top-5 accuracy of a classifier."""

from collections.abc import Iterable
from typing import TypedDict

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import Batch
from mgd_ssl.evaluation.features import Transform
from mgd_ssl.models import evaluating


class Accuracy(TypedDict):
    """In percent, over so many images."""

    top1: float
    top5: float
    images: int


@torch.no_grad()
def classifier_accuracy(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
) -> Accuracy:
    """Accuracy over the images of every process's loader; undecodable images are left out.

    Args:
        network: (B,3,H,W) -> (B,K) logits, on the device; with fewer than five classes every
            image is within the top 5.
        loader: labelled batches, this process's share.
        transform: uint8 images on the device to normalised ones.
        device: of the network.

    Raises:
        ValueError: no image, or a label that the classifier has no output for.
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
    """Images that are right, right within the first five, and all, of this process (3,)."""
    hits = torch.zeros(3, dtype=torch.int64, device=device)
    with evaluating(network):
        for batch in loader:
            kept = batch.failed < 0
            logits = network(transform(batch.images[kept].to(device)))
            labels = batch.labels[kept].to(device)
            _check(labels, logits.shape[1])
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices
            right = best == labels[:, None]
            hits += torch.stack(
                [right[:, 0].sum(), right.any(1).sum(), labels.new_tensor(len(labels))]
            )
    return hits


def _check(labels: torch.Tensor, classes: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"accuracy: got labels {int(labels.min())} to {int(labels.max())}, expected 0 to "
            f"{classes - 1}, the classifier's outputs; give it the classes of this data"
        )
