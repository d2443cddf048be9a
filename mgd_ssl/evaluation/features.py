"""Features of the images of a loader; the network is left as it was."""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import Batch
from mgd_ssl.models import evaluating, pool
from mgd_ssl.progress import tracked_batches

logger = logging.getLogger(__name__)
Transform = Callable[[Tensor], Tensor]


class Features(NamedTuple):
    """Features of images; row i of each tensor is one image.

    Attributes:
        features: (N,D) float32 on the CPU.
        labels: (N,) int64, -1 for unlabeled images.
        indices: (N,) int64, the images' indices in their source.
        failed: number of images that could not be decoded and were left out.
    """

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    indices: Int[Tensor, " n"]
    failed: int


def collect_features(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
    what: str = "features",
) -> Features:
    """Features of all images, from one pass in eval mode and without gradient.

    Maps (B,C,H,W) are pooled by their mean over H and W. Images that could not be decoded (the
    loader put others in their place) are left out and counted. If several processes share the
    images, each of them gets the features of all.

    Args:
        network: images (B,3,H,W) to features (B,D) or (B,D,H,W), already on the device.
        loader: batches of this process, which may have none.
        transform: uint8 images on the device to the network's normalized input.
        device: of the network.
        what: they are features of, for the progress that is shown.

    Returns:
        The features, in the order of the images' source.

    Raises:
        ValueError: a feature is not finite (the image is named), the output has another shape,
            or no image could be decoded; on every process.
    """
    own = collect_own_features(network, loader, transform=transform, device=device, what=what)
    features, labels, indices = (distributed.all_gather_rows(column) for column in own[:3])
    failed = torch.tensor(own.failed, device=distributed.collective_device())
    order = indices.argsort(stable=True)
    failures = int(distributed.all_reduce_sum(failed))
    found = Features(features[order], labels[order], indices[order], failures)
    if found.failed and distributed.rank() == 0:
        total = found.failed + len(found.labels)
        logger.warning("%d of %d images could not be decoded and are left out", found.failed, total)
    if not len(found.labels):
        raise ValueError(
            f"loader: got no image ({found.failed} could not be decoded), expected at least one: "
            "check the data folder"
        )
    return found


def collect_own_features(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
    what: str = "features",
) -> Features:
    """`collect_features` of this process's images alone, of which there may be none.

    Every process must call it: an error on one of them is raised on all.
    """
    shown = tracked_batches(loader, what)
    return distributed.together(
        lambda: collect_alone(network, shown, transform=transform, device=device)
    )


def collect_alone(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
) -> Features:
    """`collect_own_features` without other processes: they need not call it."""
    none = torch.empty(0, dtype=torch.int64)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    failed = 0
    with evaluating(network), torch.no_grad():
        for batch in loader:
            kept = batch.failed < 0
            failed += int((~kept).sum())
            features = pool(network(transform(batch.images.to(device, non_blocking=True))))
            features = features.float().cpu()[kept]
            _check_finite(features, batch.indices[kept])
            parts.append((features, batch.labels[kept], batch.indices[kept]))
    if not parts:
        return Features(torch.empty(0, 0), none, none, failed)
    features, labels, indices = (torch.cat(column) for column in zip(*parts, strict=True))
    return Features(features, labels, indices, failed)


def _check_finite(features: Tensor, indices: Tensor) -> None:
    bad = indices[~features.isfinite().all(dim=1)]
    if len(bad):
        raise ValueError(
            f"features: not finite for {len(bad)} images of a batch, the first of which is image "
            f"{int(bad[0])}; expected finite features: look for a diverged network, or run in "
            "float32"
        )
