"""Features of a whole loader, once through a network that is left as it was found."""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import Batch
from mgd_ssl.models import evaluating, pool

logger = logging.getLogger(__name__)
Transform = Callable[[Tensor], Tensor]


class Features(NamedTuple):
    """What ``collect_features`` found; row i of each tensor is one image.

    Attributes:
        features: (N,D) float32 on the CPU.
        labels: (N,) int64, -1 where unknown.
        indices: (N,) int64, the images' places in their source.
        failed: number of images left out because they could not be decoded.
    """

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    indices: Int[Tensor, " n"]
    failed: int


def extract_features(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
    progress: Callable[[int], None] | None = None,
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
    """Features (N,D) float32 and labels (N,) int64 on the CPU; see ``collect_features``."""
    found = collect_features(network, loader, transform=transform, device=device, progress=progress)
    return found.features, found.labels


def collect_features(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Run every image through the network in eval mode, without gradient.

    Maps (B,C,H,W) are pooled by their mean over H and W. Rows whose image could not be decoded
    (the loader put another in its place) are left out and counted.

    Args:
        network: images (B,3,H,W) to features (B,D) or (B,D,H,W), already on the device.
        loader: batches with images uint8 (B,3,S,S), labels, indices and failed (B,).
        transform: uint8 images on the device to the network's normalised input.
        device: where the network is.
        progress: called with the number of images of each batch when it is done.

    Raises:
        ValueError: a feature is not finite (the image is named), the output has another shape,
            or no image was left.
    """
    found = _collect(network, loader, transform, device, progress)
    _warn(found)
    _check_any(found)
    return found


def collect_shared(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
) -> Features:
    """``collect_features`` of a source whose images several processes share out.

    Every process gets the features of all of them, in the order of the source.

    Args:
        network: as ``collect_features``.
        loader: this process's share of the images, which may be none.
        transform: as ``collect_features``.
        device: as ``collect_features``.

    Raises:
        ValueError: as ``collect_features``, on every process.
    """
    mine = collect_share(network, loader, transform=transform, device=device)
    columns = (distributed.all_gather_rows(column) for column in mine[:3])
    features, labels, indices = columns
    order = indices.argsort()
    failed = torch.tensor(mine.failed, device=distributed.collective_device())
    whole = Features(
        features[order],
        labels[order],
        indices[order],
        int(distributed.all_reduce_sum(failed)),
    )
    if distributed.rank() == 0:
        _warn(whole)
    _check_any(whole)
    return whole


def collect_share(
    network: nn.Module,
    loader: Iterable[Batch],
    *,
    transform: Transform,
    device: torch.device | str,
) -> Features:
    """Features of this process's images, which may be none; the others take theirs meanwhile.

    Raises:
        ValueError: as ``collect_features``, on every process.
    """
    return distributed.together(lambda: _collect(network, loader, transform, device))


def _collect(
    network: nn.Module,
    loader: Iterable[Batch],
    transform: Transform,
    device: torch.device | str,
    progress: Callable[[int], None] | None = None,
) -> Features:
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
            if progress is not None:
                progress(len(kept))
    if not parts:
        return Features(torch.empty(0, 0), none, none, failed)
    features, labels, indices = (torch.cat(column) for column in zip(*parts, strict=True))
    return Features(features, labels, indices, failed)


def _warn(found: Features) -> None:
    if found.failed:
        total = found.failed + len(found.labels)
        logger.warning(
            "%d images could not be decoded and are left out, of %d", found.failed, total
        )


def _check_any(found: Features) -> None:
    if not len(found.labels):
        raise ValueError(
            f"loader: got no image ({found.failed} could not be decoded), expected at least one: "
            "check the data folder"
        )


def _check_finite(features: Tensor, indices: Tensor) -> None:
    bad = indices[~features.isfinite().all(dim=1)]
    if len(bad):
        raise ValueError(
            f"features: not finite for {len(bad)} images of a batch, the first is image "
            f"{int(bad[0])}; expected finite features: look for a diverged network, or run in "
            "float32"
        )
