"""Load detectors and their bodies from files of this project, torchvision and Detectron2."""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import RetinaNet

from mgd_ssl.detection import detectron2
from mgd_ssl.detection.layouts import Layout, find_layout, guess_detector, rename_old_tower
from mgd_ssl.detection.numpy_pickle import read_numpy_pickle
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models.backbones import backbone_state
from mgd_ssl.models.checkpoints import load_backbone
from mgd_ssl.models.file_entries import FileEntries
from mgd_ssl.models.filling import KeyReport, check_tensors, fill
from mgd_ssl.models.guessing import guess_spec
from mgd_ssl.models.layouts import Place
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.models.resnets import RESNETS
from mgd_ssl.models.weights import files_of, find_checkpoint, read_checkpoint

ADVICE = "Build the detector with the network that the file holds"
PUBLISHED = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")
OLD_NAMES = {"caffe": "stride_in_1x1"}  # entries of DetectorSpec in older checkpoints
# The batch norms of these weights were trained with an epsilon of 0.
WITHOUT_EPS = torchvision.models.detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1


def load_detector(
    source: str | Path, *, msra: bool | None = None, arch: str | None = None, **given: Any
) -> tuple[RetinaNet, KeyReport]:
    """Build and load the detector in a file, or one that torchvision publishes.

    Args:
        source: a file or a name. Files: this project's checkpoints; a state dict of torchvision's
            RetinaNet, on its own or under ``model`` or ``state_dict``; a Detectron2 RetinaNet as
            .pkl or .pth. Names: ``retinanet_resnet50_fpn`` and ``retinanet_resnet50_fpn_v2``,
            which are downloaded.
        msra: whether a Detectron2 file builds on MSRA's ImageNet weights: stride in the 1×1
            convolutions, and a first convolution for BGR pixels with std 1, which is rewritten
            for normalized RGB. None: as the file shows.
        arch: architecture of the body; None: as the keys show.
        given: entries of `DetectorSpec` that override the file's. Some cannot be told from the
            files of other projects and default to torchvision's or Detectron2's values:
            ``smallest_anchor``, ``exact_anchors``, ``min_size``, ``max_size``, ``norm_eps`` and
            ``category_ids``. The last are 0..K-1 for torchvision, whose labels are COCO's ids; for
            Detectron2 COCO's 80 ids if there are 80 outputs, else 1..K.

    Returns:
        The detector in eval mode, and the `KeyReport`, whose spec is a `DetectorSpec` and whose
        ``head`` lists the entries of a Detectron2 file that are not weights of a RetinaNet.

    Raises:
        ValueError: there is no such file or name, the download fails, the file holds no detector,
            or its entries differ from the detector's.
    """
    path = find_checkpoint(Path(source))
    checkpoint, published = _read_detector(path)
    layout, place, state = _find_detector(path, checkpoint)
    left_out: list[str] = []
    if layout == "detectron2":
        left_out = [k for k in state if detectron2.is_left_out(k)]
        check_tensors(path, {k: v for k, v in state.items() if k not in left_out})
        msra = detectron2.is_msra(state) if msra is None else msra
        state = _renamed(path, detectron2.retinanet_from_detectron2, state, msra)
    state = {rename_old_tower(key): value for key, value in state.items()}
    entries = FileEntries.of(path, _with_current_names(checkpoint), {})
    spec = entries.detector(DetectorSpec, arch)
    if spec is None:
        spec = guess_detector(path, layout, state, arch)
    if published == WITHOUT_EPS or path.name == Path(WITHOUT_EPS.url).name:
        spec = replace(spec, norm_eps=0.0)
    given |= {k: v for k, v in {"stride_in_1x1": msra, "arch": arch}.items() if v is not None}
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced by the file's
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
        sha256=sha256_of(*files_of(path)),
        learned_from=entries.provenance(),
    )
    return detector.eval(), fill(detector, state, report, ADVICE)


def load_body(detector: RetinaNet, path: str | Path) -> KeyReport:
    """Load a ResNet into a detector's body; the rest of the detector is unchanged.

    Args:
        detector: from `create_detector`.
        path: anything that `load_backbone` takes (a run of pretrain.py, a file of MoCo, a name of
            torchvision), or a .pkl of Detectron2 or Caffe2.

    Raises:
        ValueError: the file cannot be read, holds a network that differs from the body, or expects
            images that are not normalized as ImageNet's.
    """
    path, spec = find_checkpoint(Path(path)), detector.spec
    if _is_numpy_pickle(path):
        report, state = _read_detectron2_body(path, spec)
    else:
        given = {"stem_stride": spec.stem_stride} if spec.stem == "small" else {}
        given |= {"arch": spec.arch} if ":" in spec.arch else {}  # code, which no file may name
        network, report = load_backbone(path, **given)
        state = backbone_state(network)
    _require_normalization(report)
    if spec.stride_in_1x1 and report.layout != "detectron2":
        raise ValueError(
            f"body: {path} has its strides in the 3×3 convolutions, expected the detector's 1×1; "
            "create the detector with stride_in_1x1=False"
        )
    return fill(detector.backbone.body, state, report, _advice(path, state))


def _advice(path: Path, state: Mapping[str, Any]) -> str:
    """The options that build the detector with the network of these tensors, where they show it."""
    try:
        spec = guess_spec(path, state, None)
    except ValueError:
        return ADVICE
    options = f"--arch {spec.arch} --width {spec.width:g} --stem {spec.stem}"
    return f"{ADVICE}: {options}" if spec.arch in RESNETS else ADVICE


def is_detector(path: str | Path) -> bool:
    """Whether a file, or the name of published weights, holds a detector and not a backbone."""
    path = find_checkpoint(Path(path))
    if not path.is_file():
        return _name(path) in PUBLISHED
    checkpoint = read_numpy_pickle(path) if _is_numpy_pickle(path) else read_checkpoint(path)[0]
    return "detector" in checkpoint or find_layout(checkpoint) is not None


def _name(path: Path) -> str:
    return str(path).partition(":")[0]


def _is_numpy_pickle(path: Path) -> bool:
    return path.suffix == ".pkl" and not zipfile.is_zipfile(path)


def _read_detector(path: Path) -> tuple[dict[str, Any], Any]:
    """A file's content, or that of published weights and their torchvision entry."""
    if path.exists():
        is_pickle = _is_numpy_pickle(path)
        return read_numpy_pickle(path) if is_pickle else read_checkpoint(path)[0], None
    name, _, version = str(path).partition(":")
    if name not in PUBLISHED:
        raise ValueError(
            f"detector: got {path}, which is no file; expected a detector's checkpoint, or one of "
            f"{', '.join(PUBLISHED)}"
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
            f"detector: {name!r} could not be downloaded: {error}; expected a network connection, "
            f"or the file in torch's cache. Download {published.url} elsewhere and give the file's "
            "path"
        ) from error


def _with_current_names(checkpoint: dict[str, Any]) -> dict[str, Any]:
    described = checkpoint.get("detector")
    if not isinstance(described, Mapping):
        return checkpoint
    renamed = {OLD_NAMES.get(name, name): value for name, value in described.items()}
    return {**checkpoint, "detector": renamed}


def _find_detector(path: Path, checkpoint: dict[str, Any]) -> tuple[Layout, Place, dict[str, Any]]:
    found = find_layout(checkpoint)
    if found is None:
        raise ValueError(
            f"detector: {path} holds no RetinaNet; its entries are "
            f"{', '.join(map(str, list(checkpoint)[:8])) or 'none'}; expected a checkpoint of "
            "mgd-ssl detect, torchvision or Detectron2. To start a student's body from a backbone, "
            "use --backbone-weights"
        )
    return found


def _read_detectron2_body(path: Path, spec: DetectorSpec) -> tuple[KeyReport, dict[str, Tensor]]:
    content = read_numpy_pickle(path)
    inside = (content[k] for k in ("model", "blobs") if isinstance(content.get(k), dict))
    source = next(inside, content)
    state = {
        k: v
        for k, v in source.items()
        if isinstance(k, str) and isinstance(v, Tensor)
        if not k.endswith("_momentum")  # Caffe2's optimizer
    }
    msra = detectron2.is_msra(state)
    if msra != spec.stride_in_1x1:
        got, expected = ("1×1", "3×3") if msra else ("3×3", "1×1")
        raise ValueError(
            f"body: {path} has its strides in the {got} convolutions, expected the detector's "
            f"{expected}; create the detector with stride_in_1x1={msra}"
        )
    head = [k for k in state if detectron2.is_left_out(k)]
    state = _renamed(path, detectron2.backbone_from_detectron2, state, msra)
    report = KeyReport(path, "detectron2", spec, head=head, sha256=sha256_of(*files_of(path)))
    return report, state


def _renamed(path: Path, rename: Any, state: dict[str, Tensor], bgr: bool) -> dict[str, Tensor]:
    """A Detectron2 state under torchvision's names, its weights converted."""
    try:
        renamed: dict[str, Tensor] = rename(state, bgr=bgr)
    except (TypeError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"detector: {path} has an entry of an impossible shape: {error}; expected those of "
            "Detectron2's RetinaNet; copy or download the file again"
        ) from error
    return renamed


def _require_normalization(report: KeyReport) -> None:
    if (report.mean, report.std) != (IMAGENET_MEAN, IMAGENET_STD):
        raise ValueError(
            f"body: {report.path} expects images normalized by mean {report.mean} and std "
            f"{report.std}, expected ImageNet's {IMAGENET_MEAN} and {IMAGENET_STD}, as in the "
            "detector; train the backbone with these"
        )
