"""COCO's average precision of a detector, computed by faster-coco-eval."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.detection.loading import DetectionBatch
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.models import evaluating
from mgd_ssl.progress import tracked_batches

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
logger = logging.getLogger(__name__)


def detector_ap(
    network: nn.Module,
    source: DetectionSource,
    loader: Iterable[DetectionBatch],
    *,
    category_ids: Sequence[int],
    device: torch.device | str,
) -> dict[str, float]:
    """Measure a detector on annotated images.

    Images that cannot be decoded are left out, with their boxes. With several processes, each runs
    the detector on its share of the images; the first computes the figures and sends them to all.

    Args:
        network: list of images (3,H,W) in [0,1] -> torchvision's boxes, scores and labels.
        source: all the images.
        loader: this process's share of them, in order.
        category_ids: COCO id of each of the network's labels 0..K-1. Detections of categories that
            the source does not have are left out.
        device: of the network.

    Returns:
        The figures of `coco_ap`, and the number of "images" measured and of "unreadable" ones.

    Raises:
        ValueError: see `coco_ap`.
    """
    mine = distributed.together(lambda: _detect(network, source, loader, category_ids, device))
    detections, unreadable = (distributed.gather_on_first(part) for part in mine)

    def measure() -> dict[str, float]:
        readable = np.setdiff1d(np.arange(len(source)), unreadable).astype(np.int64)
        ground_truth = source.select(readable).ground_truth()
        counts = {"images": len(ground_truth["images"]), "unreadable": len(unreadable)}
        return coco_ap(ground_truth, detections) | counts

    return distributed.from_first(measure)


@torch.no_grad()
def _detect(
    network: nn.Module,
    source: DetectionSource,
    loader: Iterable[DetectionBatch],
    category_ids: Sequence[int],
    device: torch.device | str,
) -> tuple[list[dict[str, Any]], list[int]]:
    """COCO's result entries of the loader's images, and the indices of undecodable images."""
    known, detections, unreadable = set(source.category_ids), list[dict[str, Any]](), list[int]()
    with evaluating(network):
        for batch in tracked_batches(loader, "detections"):
            outputs = network([image.to(device).float().div_(255) for image in batch.images])
            rows = zip(outputs, batch.indices.tolist(), batch.failed.tolist(), strict=True)
            for output, index, failed in rows:
                if failed >= 0:
                    unreadable.append(failed)
                else:
                    detections += to_coco(output, source.table.image_ids[index], category_ids)
    return [entry for entry in detections if entry["category_id"] in known], unreadable


def to_coco(
    output: dict[str, Tensor], image_id: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Detections of one image as COCO's result entries.

    Args:
        output: "boxes" (M,4) x1, y1, x2, y2 in pixels of the stored image, "scores" (M,), and
            "labels" (M,), positions in ``category_ids``.
        image_id: COCO id of the image.
        category_ids: COCO ids in the order of the labels.
    """
    columns = (output[key].tolist() for key in ("boxes", "scores", "labels"))
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in zip(*columns, strict=True)
    ]


def coco_ap(ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> dict[str, float]:
    """COCO's average precision of boxes, at most 100 detections an image.

    Args:
        ground_truth: COCO dictionary of images, annotations ("id" from 1 on, "area", "iscrowd")
            and categories.
        detections: entries of "image_id", "category_id", "bbox" [x, y, width, height] in pixels
            and "score".

    Returns:
        In percent: AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, and APs, APm, APl of objects
        below 32², up to 96² and above 96² pixels. A size without objects is left out.

    Raises:
        ValueError: no object to find, a detection that is not finite, or faster-coco-eval is not
            installed.

    Source: https://cocodataset.org/#detection-eval
    """
    if all(entry["iscrowd"] for entry in ground_truth["annotations"]):
        raise ValueError(
            f"{len(ground_truth['images'])} images without an object to find; expected at least "
            "one annotation that is not a crowd. Evaluate on annotated images."
        )
    if not all(math.isfinite(sum(entry["bbox"]) + entry["score"]) for entry in detections):
        raise ValueError(
            "detections whose box or score is not finite; expected finite numbers. The network has "
            "diverged: use an earlier checkpoint or a lower learning rate."
        )
    library = coco_library()
    objects = [dict(entry) for entry in ground_truth["annotations"]]  # the library adds entries
    truth = library.COCO({**ground_truth, "annotations": objects})
    found = truth.loadRes([dict(entry) for entry in detections])
    evaluation = library.COCOeval_faster(truth, found, "bbox", print_function=logger.debug)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    named = zip(FIGURES, evaluation.stats, strict=False)  # average recalls follow
    return {name: 100 * float(figure) for name, figure in named if figure >= 0}  # -1: no objects


def coco_library() -> Any:
    """The module faster_coco_eval.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError as error:
        raise ValueError(
            "faster-coco-eval, which computes COCO's average precision, is not installed. Run: "
            "pip install faster-coco-eval"
        ) from error
    return faster_coco_eval
