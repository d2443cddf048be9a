"""COCO's average precision, by faster-coco-eval or pycocotools."""

import contextlib
import importlib
import io
import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
LIBRARIES = (  # where COCO and COCOeval are; the first that is installed is used
    (("faster_coco_eval", "COCO"), ("faster_coco_eval", "COCOeval_faster")),
    (("pycocotools.coco", "COCO"), ("pycocotools.cocoeval", "COCOeval")),
)


def to_coco(
    boxes: Float[Tensor, "m 4"],
    scores: Float[Tensor, " m"],
    labels: Int[Tensor, " m"],
    image_id: int,
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Detections of one image as COCO's result entries.

    Args:
        boxes: (M, 4) x1, y1, x2, y2 in pixels of the image as it is stored.
        scores: (M,) higher is surer.
        labels: (M,) positions in ``category_ids``.
        image_id: COCO id of the image.
        category_ids: COCO ids in the order of the labels.

    Raises:
        ValueError: a label outside 0..K-1.
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(category_ids):
        raise ValueError(
            f"image {image_id}: labels {int(labels.min())} to {int(labels.max())} for "
            f"{len(category_ids)} categories; expected 0 to {len(category_ids) - 1}. Use a network "
            "whose head has the data set's categories, without background."
        )
    rows = zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in rows
    ]


def coco_ap(ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> dict[str, float]:
    """COCO's average precision of boxes, at most 100 detections an image.

    Args:
        ground_truth: COCO dictionary of images, annotations ("id" from 1 on, "area") and
            categories.
        detections: entries of "image_id", "category_id", "bbox" [x, y, width, height] in pixels
            and "score".

    Returns:
        In per cent: AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, and APs, APm, APl of objects
        below 32², up to 96² and above 96² pixels; a size of which there are no objects is left out.

    Raises:
        ValueError: no objects to find, detections that do not belong to the ground truth, or
            neither library is installed.

    Source: https://cocodataset.org/#detection-eval
    """
    # copies, as the libraries write in them
    objects = [{"iscrowd": 0, **entry} for entry in ground_truth["annotations"]]
    if all(entry["iscrowd"] for entry in objects):
        raise ValueError(
            f"{len(ground_truth['images'])} images without an object to find; expected at least "
            "one annotation that is no crowd. Evaluate on annotated images."
        )
    _check(ground_truth, detections)
    found = [dict(entry) for entry in detections]
    stats = _evaluate({**ground_truth, "annotations": objects}, found or [_miss(objects[0])])
    return {name: 100 * stat for name, stat in zip(NAMES, stats, strict=True) if stat >= 0}


def _miss(entry: dict[str, Any]) -> dict[str, Any]:
    """A detection that finds nothing, as the libraries cannot be given none."""
    where = {key: entry[key] for key in ("image_id", "category_id")}
    return {**where, "bbox": [-2.0, -2.0, 1.0, 1.0], "score": 0.0}


def _check(ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> None:
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in ground_truth[section]}
        unknown = sorted({entry[key] for entry in detections} - known)
        if unknown:
            raise ValueError(
                f"detections of {key} {', '.join(map(str, unknown[:3]))}; expected ids among the "
                f"{len(known)} {section} of the ground truth. Evaluate on the same data set."
            )
    if not all(math.isfinite(sum(entry["bbox"]) + entry["score"]) for entry in detections):
        raise ValueError(
            "detections whose box or score is not finite; expected finite numbers. The network has "
            "diverged: use an earlier checkpoint or a lower learning rate."
        )


def _evaluate(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> list[float]:
    """The first six of COCO's twelve figures, in [0, 1], -1 where there are no objects."""
    coco_class, evaluator_class = coco_library()
    with contextlib.redirect_stdout(io.StringIO()):  # both print their progress
        truth = coco_class()
        truth.dataset = {"info": {}, **ground_truth}
        truth.createIndex()
        evaluation = evaluator_class(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(stat) for stat in evaluation.stats[:6]]


def coco_library() -> tuple[Any, Any]:
    """The classes COCO and COCOeval of the first library that is installed.

    Raises:
        ValueError: none is.
    """
    for names in LIBRARIES:
        with contextlib.suppress(ImportError):
            coco, evaluator = (getattr(importlib.import_module(at), name) for at, name in names)
            return coco, evaluator
    raise ValueError(
        "neither faster-coco-eval nor pycocotools is installed; expected one of them, which "
        "compute COCO's average precision. Run: pip install 'mgd_ssl[detection]'"
    )
