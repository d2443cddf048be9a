"""Reads COCO's instances_*.json into arrays: boxes are clipped, unusable ones are counted."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.detection.annotations import AnnotationTable, Objects, starts_of
from mgd_ssl.detection.coco_checks import is_crowd, load_sections

logger = logging.getLogger(__name__)


def read_coco(file: Path) -> tuple[AnnotationTable, list[str]]:
    """Read an annotation file.

    Boxes are clipped to their image. Boxes without area or entirely outside are dropped, and a
    warning counts them. Labels are positions in the sorted category ids.

    Returns:
        The table, and the images' paths relative to the folder of images.

    Raises:
        ValueError: the JSON is broken, an entry is missing or malformed, an id is repeated or
            unknown, or no annotation can be used.
    """
    data = load_sections(file)
    images, annotations = data["images"], data["annotations"]
    image_ids, names = _ids(file, data, "images"), [image["file_name"] for image in images]
    _check_names(file, names)
    category_ids = sorted(_ids(file, data, "categories"))
    categories = sorted(data["categories"], key=lambda category: category["id"])
    owner = _positions(file, annotations, "image_id", image_ids)
    labels = _positions(file, annotations, "category_id", category_ids)
    sizes = np.array([(image["height"], image["width"]) for image in images], np.int64)
    rows, owner, dropped = _clean(file, _objects(file, annotations, labels), owner, sizes)
    table = AnnotationTable(
        image_ids,
        category_ids,
        [category["name"] for category in categories],
        rows,
        starts_of(np.bincount(owner, minlength=len(image_ids))),
        sizes,
        dropped,
        file.name,
    )
    return table, names


def _ids(file: Path, data: dict[str, list[dict[str, Any]]], section: str) -> list[int]:
    ids = [entry["id"] for entry in data[section]]
    values, counts = np.unique(np.array(ids, np.int64), return_counts=True)
    if (counts > 1).any():
        twice = ", ".join(map(str, values[counts > 1][:3]))
        raise ValueError(
            f"{file}: {(counts > 1).sum()} ids occur more than once in {section}, among them "
            f"{twice}; expected an id of its own for each. Number them again."
        )
    return ids


def _check_names(file: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{file}: {len(twice)} images are named more than once, among them "
            f"{', '.join(twice[:3])}; expected one entry an image. Give its boxes one image id."
        )


def _positions(
    file: Path, annotations: list[dict[str, Any]], key: str, ids: list[int]
) -> NDArray[np.int64]:
    """Position in ``ids`` of the id that each annotation refers to."""
    position = {known: number for number, known in enumerate(ids)}
    found = np.array([position.get(entry[key], -1) for entry in annotations], np.int64)
    if (found < 0).any():
        first = np.flatnonzero(found < 0)[:3]
        named = ", ".join(str(annotations[number][key]) for number in first)
        section = "images" if key == "image_id" else "categories"
        raise ValueError(
            f'{file}: {(found < 0).sum()} annotations whose "{key}" is not in {section}, among '
            f"them {named}; expected ids that are. Add what is missing, or remove them."
        )
    return found


def _objects(file: Path, annotations: list[dict[str, Any]], labels: NDArray[np.int64]) -> Objects:
    """Objects as the file gives them; a missing area is that of the box."""
    boxes = np.array([entry["bbox"] for entry in annotations], np.float64).reshape(-1, 4)
    areas = boxes[:, 2] * boxes[:, 3]
    for number, entry in enumerate(annotations):
        if entry.get("area") is not None:
            areas[number] = entry["area"]
    crowd = np.array([is_crowd(entry) for entry in annotations], np.bool_)
    boxes[:, 2:] += boxes[:, :2]
    if len(boxes) and boxes.max() <= 1 and (boxes % 1).any():
        raise ValueError(
            f"{file}: all boxes lie between 0 and 1, as if relative; expected pixels: x, y, "
            "width, height. Multiply them by the image's width and height."
        )
    return Objects(boxes, labels, areas, crowd)


def _clean(
    file: Path, objects: Objects, owner: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Objects, NDArray[np.int64], dict[str, int]]:
    """Usable objects and their images, in image order, and counts of the dropped by reason."""
    flat = _flat(objects.boxes)
    limits = sizes[owner][:, [1, 0, 1, 0]]
    boxes = np.clip(objects.boxes, 0, limits)
    outside = ~flat & _flat(boxes)
    cut = ~flat & ~outside & (np.abs(boxes - objects.boxes) > 1).any(1)  # by more than rounding
    within = np.where(cut, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.inf)
    clipped = Objects(boxes, objects.labels, np.minimum(objects.areas, within), objects.crowd)
    usable = np.flatnonzero(~flat & ~outside)
    order = usable[np.argsort(owner[usable], kind="stable")]
    counts = {"no area": flat, "outside": outside, "crowd": objects.crowd & ~flat & ~outside}
    dropped = {reason: int(found.sum()) for reason, found in counts.items() if found.any()}
    _report(file, dropped, int(cut.sum()), int((~objects.crowd[usable]).sum()))
    return clipped.select(order), owner[order], dropped


def _flat(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes have no area in float32, the precision of training targets."""
    corners = boxes.astype(np.float32)
    return np.asarray((corners[:, 2:] <= corners[:, :2]).any(1), np.bool_)


def _report(file: Path, dropped: dict[str, int], cut: int, left: int) -> None:
    found = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    if not left:
        dropped_all = f" that can be used (dropped: {found})" if found else ""
        raise ValueError(
            f"{file}: no annotations{dropped_all}; expected boxes inside the images. Annotate the "
            "images, or use them without annotations."
        )
    if cut or dropped:
        hint = " (are these corners rather than width and height?)" if 2 * cut > left else ""
        logger.warning("%s: boxes dropped: %s; clipped: %d%s", file, found or "none", cut, hint)
