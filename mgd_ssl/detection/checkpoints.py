"""Read detectors and their bodies: this project's files, torchvision's, Detectron2's."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import RetinaNet

from mgd_ssl.detection import detectron2
from mgd_ssl.detection.layouts import Layout, find_layout, guess_detector, second_version
from mgd_ssl.detection.numpy_pickle import read_numpy_pickle
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models.backbones import backbone_state
from mgd_ssl.models.checkpoints import load_backbone
from mgd_ssl.models.file_entries import FileEntries
from mgd_ssl.models.filling import KeyReport, check_tensors, fill
from mgd_ssl.models.layouts import Place
from mgd_ssl.models.weights import find_checkpoint, read_checkpoint

ADVICE = "Build the detector with the network that the file holds"
NAMES = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")
# torchvision's first COCO weights were trained with norms that add nothing to the variance.
WITHOUT_EPS = torchvision.models.detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1


def load_detector(
    source: str | Path, *, caffe: bool | None = None, arch: str | None = None, **given: Any
) -> tuple[RetinaNet, KeyReport]:
    """Build the detector that a file holds, or that torchvision publishes, and load it.

    Args:
        source: a file (this project's, a state dict of torchvision's RetinaNet, also under
            ``model`` or ``state_dict``, a Detectron2 RetinaNet as .pkl or .pth), or
            ``retinanet_resnet50_fpn``, ``retinanet_resnet50_fpn_v2``, which are downloaded.
        caffe: stride in the 1×1 convolution; a Detectron2 file's pixels are then BGR, std 1, and
            are rewritten. None: as the file shows.
        arch: of the body; None: as its keys show.
        given: entries of `DetectorSpec` that take the place of what the file shows. Those that
            no file of others shows are torchvision's or Detectron2's defaults: ``smallest_anchor``,
            ``exact_anchors``, ``min_size``, ``max_size``, ``norm_eps``, and ``category_ids``,
            which are 0..K-1 for torchvision (its labels are COCO's ids), COCO's 80 for
            Detectron2's 80 outputs, 1..K for any other number of them.

    Returns:
        The detector in eval mode, and the `KeyReport`, whose spec is a `DetectorSpec`; under
        ``head`` are a Detectron2 file's entries that hold no weights.

    Raises:
        ValueError: no such file or name, no network to download with, no detector in it, or
            anything in it differs from the detector built.
    """
    path = find_checkpoint(Path(source))
    checkpoint, published = _read_detector(path)
    layout, place, state = _find_detector(path, checkpoint)
    left_out: list[str] = []
    if layout == "detectron2":
        left_out = [k for k in state if detectron2.is_left_out(k)]
        check_tensors(path, {k: v for k, v in state.items() if k not in left_out})
        caffe = detectron2.is_caffe(state) if caffe is None else caffe
        state = _renamed(path, detectron2.retinanet_from_detectron2, state, caffe)
    state = {second_version(key): value for key, value in state.items()}
    entries = FileEntries.of(path, checkpoint, {})
    spec = entries.detector(DetectorSpec, arch)
    if spec is None:
        spec = guess_detector(path, layout, state, arch)
    if published == WITHOUT_EPS or path.name == Path(WITHOUT_EPS.url).name:
        spec = replace(spec, norm_eps=0.0)
    given |= {k: v for k, v in {"caffe": caffe, "arch": arch}.items() if v is not None}
    with torch.random.fork_rng(devices=[]):  # what is read from a file draws no random numbers
        detector = create_detector(replace(spec, **given))
    classes = len(detector.spec.category_ids)
    report = KeyReport(
        path,
        "detect" if "detector" in entries.said else layout,
        detector.spec,
        head=left_out,
        classes=classes,
        class_names=published.meta["categories"] if published else entries.classes(classes),
        place=str(place),
        published=published is not None,
    )
    return detector.eval(), fill(detector, state, report, ADVICE)


def load_body(detector: RetinaNet, path: str | Path) -> KeyReport:
    """Load a ResNet into a detector's body; the rest of the detector stays as it is.

    Args:
        detector: from `create_detector`.
        path: what `load_backbone` takes (a run of pretrain.py, MoCo's files, a name of
            torchvision's), or a .pkl of Detectron2 or Caffe2.

    Raises:
        ValueError: the file cannot be read, holds another network than the body, or one for
            images normalised in another way.
    """
    path, spec = find_checkpoint(Path(path)), detector.spec
    if _is_numpy_pickle(path):
        report, state = _read_detectron2_body(path, spec)
    else:
        given = {"stem_stride": spec.stem_stride} if spec.stem == "small" else {}
        given |= {"arch": spec.arch} if ":" in spec.arch else {}  # which no file may say
        network, report = load_backbone(path, **given)
        state = backbone_state(network)
    _require_normalisation(report)
    if spec.caffe and report.layout != "detectron2":
        raise ValueError(
            f"body: {path} has its strides in the 3×3 convolutions, and the detector, with caffe, "
            "in the 1×1 ones; create the detector without caffe"
        )
    return fill(detector.backbone.body, state, report, ADVICE)


def is_detector(path: str | Path) -> bool:
    """Whether a file, or a name of published weights, is a detector rather than a backbone."""
    path = find_checkpoint(Path(path))
    if not path.is_file():
        return _name(path) in NAMES
    checkpoint = read_numpy_pickle(path) if _is_numpy_pickle(path) else read_checkpoint(path)[0]
    return "detector" in checkpoint or find_layout(checkpoint) is not None


def _name(path: Path) -> str:
    return str(path).partition(":")[0]


def _is_numpy_pickle(path: Path) -> bool:
    return path.suffix == ".pkl" and not zipfile.is_zipfile(path)


def _read_detector(path: Path) -> tuple[dict[str, Any], Any]:
    """A file's content, or published weights' and which they are."""
    if path.exists():
        is_pickle = _is_numpy_pickle(path)
        return read_numpy_pickle(path) if is_pickle else read_checkpoint(path)[0], None
    name, _, version = str(path).partition(":")
    if name not in NAMES:
        raise ValueError(
            f"detector: got {path}, which is no file; expected a detector's checkpoint, or one of "
            f"{', '.join(NAMES)}"
        )
    weights = torchvision.models.get_model_weights(name)
    published = next((w for w in weights if w.name == version), weights.DEFAULT)
    if version and published.name != version:
        known = ", ".join(w.name for w in weights)
        raise ValueError(f"detector: got {version!r} of {name}, expected one of {known}")
    try:
        return published.get_state_dict(progress=False, check_hash=True), published
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"detector: {name!r} could not be downloaded: {error}; expected a network, or the file "
            f"in torch's cache; download {published.url} elsewhere and give the file's path"
        ) from error


def _find_detector(path: Path, checkpoint: dict[str, Any]) -> tuple[Layout, Place, dict[str, Any]]:
    found = find_layout(checkpoint)
    if found is None:
        raise ValueError(
            f"detector: {path} holds no RetinaNet; its entries are "
            f"{', '.join(map(str, list(checkpoint)[:8])) or 'none'}; expected a checkpoint of "
            "mgd-ssl detect, torchvision or Detectron2; a backbone starts a student's body: "
            "--backbone-weights"
        )
    return found


def _read_detectron2_body(path: Path, spec: DetectorSpec) -> tuple[KeyReport, dict[str, Tensor]]:
    content = read_numpy_pickle(path)
    inside = (content[k] for k in ("model", "blobs") if isinstance(content.get(k), dict))
    source = next(inside, content)
    state = {
        k: v
        for k, v in source.items()
        if isinstance(v, Tensor) and not k.endswith("_momentum")  # Caffe2's optimizer
    }
    caffe = detectron2.is_caffe(state)
    if caffe != spec.caffe:
        raise ValueError(
            f"body: {path} has its strides in the {'1×1' if caffe else '3×3'} convolutions and the "
            f"detector does not; create it with caffe={caffe}"
        )
    head = [k for k in state if detectron2.is_left_out(k)]
    state = _renamed(path, detectron2.backbone_from_detectron2, state, caffe)
    return KeyReport(path, "detectron2", spec, 0, head=head), state


def _renamed(path: Path, rename: Any, state: dict[str, Tensor], caffe: bool) -> dict[str, Tensor]:
    """A Detectron2 state under torchvision's names; some of it is turned and scaled on the way."""
    try:
        renamed: dict[str, Tensor] = rename(state, caffe=caffe)
    except (TypeError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"detector: {path} has an entry of a shape that no RetinaNet's has: {error}; expected "
            "Detectron2's; copy or download the file again"
        ) from error
    return renamed


def _require_normalisation(report: KeyReport) -> None:
    if (report.mean, report.std) != (IMAGENET_MEAN, IMAGENET_STD):
        raise ValueError(
            f"body: {report.path} is for images normalised by mean {report.mean} and std "
            f"{report.std}, expected ImageNet's, {IMAGENET_MEAN} and {IMAGENET_STD}, which the "
            "detector uses; train the backbone with these"
        )
