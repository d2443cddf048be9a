"""Layouts of detector files, and the detector that a file's names and shapes describe."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mgd_ssl.detection import detectron2
from mgd_ssl.detection.retinanet import ANCHORS, DetectorSpec
from mgd_ssl.models.filling import COUNT
from mgd_ssl.models.guessing import RESNET, guess_spec
from mgd_ssl.models.layouts import Place, find_places, read_place

BODY = "backbone.body."
CLASSES = "head.classification_head."
Layout = Literal["detect", "torchvision", "detectron2"]
BODIES: dict[str, Layout] = {
    BODY + "conv1.weight": "torchvision",
    BODY + RESNET: "torchvision",
    detectron2.BODY + "stem.conv1.weight": "detectron2",
    detectron2.BODY + "res2.0.conv1.weight": "detectron2",
}


def find_layout(checkpoint: Mapping[str, Any]) -> tuple[Layout, Place, dict[str, Any]] | None:
    """Layout, place and state of the detector in a checkpoint; None if it holds no detector."""
    for place in find_places(checkpoint, BODIES):
        state = read_place(checkpoint, place)
        return next(layout for key, layout in BODIES.items() if key in state), place, state
    return None


def rename_old_tower(key: str) -> str:
    """Rename a head's convolution from files before torchvision 0.13: conv.2 became conv.1.0."""
    return re.sub(
        r"^(head\.\w+_head\.conv)\.(\d+)\.(weight|bias)$",
        lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}",
        key,
    )


def guess_detector(
    path: Path, layout: Layout, state: Mapping[str, Any], arch: str | None
) -> DetectorSpec:
    """Infer the detector from the names and shapes of its entries, which are torchvision's.

    Raises:
        ValueError: an entry of a RetinaNet is missing or has an impossible shape.
    """
    boxes, logits = (
        len(_weight(path, state, f"head.{name}.weight"))
        for name in ("regression_head.bbox_reg", "classification_head.cls_logits")
    )
    p6 = _weight(path, state, "backbone.fpn.extra_blocks.p6.weight")
    c5 = _weight(path, state, "backbone.fpn.inner_blocks.2.0.weight")
    if boxes != 4 * ANCHORS:
        raise ValueError(
            f"detector: {path} has {boxes // 4} anchors at each place, expected {ANCHORS}: three "
            "sizes times three ratios"
        )
    body = {k.removeprefix(BODY): v for k, v in state.items() if k.startswith(BODY)}
    tower = re.compile(re.escape(CLASSES) + r"conv\.\d+\.0\.weight")
    groups = CLASSES + "conv.0.1.weight" in state
    return DetectorSpec(
        **guess_spec(path, body, arch).to_dict(),
        category_ids=_guess_categories(layout, logits // ANCHORS),
        fpn_channels=len(p6),
        head_convs=sum(tower.fullmatch(k) is not None for k in state),
        p6_from=_guess_p6(layout, p6.shape[1], len(p6), c5.shape[1]),
        norm="batch" if any(k.endswith(COUNT) for k in body) else "frozen",
        exact_anchors=layout == "detectron2",
        head_norm="group" if groups else "none",
        box_loss="giou" if groups else "l1",
    )


def _weight(path: Path, state: Mapping[str, Any], key: str) -> Tensor:
    """The weight of a convolution."""
    value = state.get(key)
    if isinstance(value, Tensor) and value.ndim == 4:
        return value
    shape = f" of shape {tuple(value.shape)}," if isinstance(value, Tensor) else ""
    wrong = f"has {key!r}{shape}" if shape else f"lacks {key!r},"
    raise ValueError(f"detector: {path} {wrong} expected the entries of a RetinaNet")


def _guess_categories(layout: Layout, classes: int) -> tuple[int, ...]:
    if layout == "torchvision":
        return tuple(range(classes))
    is_coco = classes == len(detectron2.COCO_IDS)
    return detectron2.COCO_IDS if is_coco else tuple(range(1, classes + 1))


def _guess_p6(layout: Layout, inputs: int, pyramid: int, c5: int) -> Literal["p5", "c5"]:
    """The map that P6 is computed from: told by its width, or by the library if both agree."""
    if pyramid == c5:
        return "c5" if layout == "detectron2" else "p5"
    return "c5" if inputs == c5 else "p5"
