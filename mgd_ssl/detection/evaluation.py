"""Average precision of a detector over a loader's images."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.detection.average_precision import coco_ap, to_coco
from mgd_ssl.detection.sources import DetectionBatch, DetectionSource
from mgd_ssl.models import evaluating

PARTS = ("boxes", "scores", "labels")


def detector_ap(
    network: nn.Module,
    source: DetectionSource,
    loader: Iterable[DetectionBatch],
    *,
    category_ids: Sequence[int],
    device: torch.device | str,
) -> dict[str, float]:
    """COCO's figures in percent (see `coco_ap`), over so many "images"; "unreadable" others.

    Images that cannot be decoded are left out, with their boxes. Several processes share the images
    out; the first computes the figures, and all get them.

    Args:
        network: images (3,H,W) in [0,1], a list of them -> torchvision's boxes, scores and labels.
        source: the annotated images, all of them.
        loader: this process's share of them, in order.
        category_ids: COCO's id of each of the network's labels, 0..K-1. Detections of categories
            that the source does not have are left out.
        device: of the network.
    """
    mine = distributed.together(lambda: detect(network, source, loader, category_ids, device))
    found, failed = (distributed.gather_on_first(part) for part in mine)

    def measure() -> list[dict[str, float]]:
        if distributed.rank() > 0:
            return []
        truth = _without(source.ground_truth(), {source.image_ids[index] for index in failed})
        counts = {"images": len(truth["images"]), "unreadable": len(failed)}
        return [coco_ap(truth, found) | counts]

    return distributed.gather_list(distributed.together(measure))[0]


def _without(truth: dict[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """The ground truth without some images and their boxes."""
    images = [image for image in truth["images"] if image["id"] not in image_ids]
    boxes = [entry for entry in truth["annotations"] if entry["image_id"] not in image_ids]
    return {**truth, "images": images, "annotations": boxes}


@torch.no_grad()
def detect(
    network: nn.Module,
    source: DetectionSource,
    loader: Iterable[DetectionBatch],
    category_ids: Sequence[int],
    device: torch.device | str,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Detections of the loader's images in COCO's format, and which could not be decoded."""
    known, found, unreadable = set(source.category_ids), list[dict[str, Any]](), list[int]()
    with evaluating(network):
        for batch in loader:
            images = [image.to(device).float().div_(255) for image in batch.images]
            outputs = network(images)
            places = zip(outputs, batch.indices.tolist(), batch.failed.tolist(), strict=True)
            for output, index, failed in places:
                if failed >= 0:
                    unreadable.append(failed)
                else:
                    boxes, scores, labels = (output[k].cpu() for k in PARTS)
                    found += to_coco(boxes, scores, labels, source.image_ids[index], category_ids)
    return [d for d in found if d["category_id"] in known], unreadable
