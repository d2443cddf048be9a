"""``mgd-ssl export``: a checkpoint in Detectron2's layout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torchvision.models.resnet import BasicBlock

from mgd_ssl.detection.checkpoints import is_detector, load_detector
from mgd_ssl.detection.detectron2 import backbone_to_detectron2, retinanet_to_detectron2
from mgd_ssl.detection.numpy_pickle import read_numpy_pickle, write_numpy_pickle
from mgd_ssl.detection.retinanet import DetectorSpec, anchor_sizes
from mgd_ssl.files import write_text, write_whole
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models import BackboneSpec, backbone_state, find_checkpoint, load_backbone
from mgd_ssl.models.resnets import RESNETS
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.export import ExportConfig
from mgd_ssl.training.logging import logger, start_logging

AUTHOR = "mgd_ssl"


def run(config: ExportConfig) -> Path:
    """Write the file and its configuration, and return the file's path."""
    start_logging()
    path = config.out or find_checkpoint(config.checkpoint).with_suffix(".detectron2.pkl")
    check_output_files([path, path.with_suffix(".yaml")], lambda: _is_export(path))
    state, settings = _convert(config.checkpoint, config.arch)
    # as MoCo's converter writes it: Detectron2 then matches names by their suffixes
    content = {"model": state, "__author__": AUTHOR, "matching_heuristics": True}
    write_whole(path, lambda file: write_numpy_pickle(file, content))
    _require_same(path, state)
    text = yaml.safe_dump(settings, sort_keys=False)
    write_text(path.with_suffix(".yaml"), text)
    logger.info("written and read back: %s, %d entries", path, len(state))
    logger.info("its configuration: %s", path.with_suffix(".yaml"))
    return path


def _is_export(path: Path) -> bool:
    try:
        return read_numpy_pickle(path).get("__author__") == AUTHOR
    except ValueError:
        return False


def _convert(checkpoint: Path, arch: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's weights under Detectron2's names, and their configuration."""
    if is_detector(checkpoint):
        detector, report = load_detector(checkpoint, arch=arch)
        state = retinanet_to_detectron2(detector.state_dict(), detector.spec)
        settings = _detector_settings(detector.spec)
    else:
        network, report = load_backbone(checkpoint, arch=arch)
        state = backbone_to_detectron2(backbone_state(network))
        settings = _body_settings(report.spec, report.mean, report.std)
    logger.info("%s", report)
    for caveat in _caveats(report.spec):
        logger.warning("in Detectron2: %s", caveat)
    return state, settings


def _caveats(spec: BackboneSpec) -> Iterator[str]:
    """Properties that Detectron2's own builders cannot be configured for."""
    if spec.stem == "small":
        yield "its stem is 7×7 with a max-pool; replace it with this network's 3×3 without one"
    if spec.width != 1 and spec.arch in RESNETS and RESNETS[spec.arch][0] is BasicBlock:
        yield "it builds basic blocks of 64 channels only; relax its assertion for this network"
    if isinstance(spec, DetectorSpec) and spec.p6_from == "p5":
        yield "its RetinaNet computes P6 from res5; give its top block in_feature p5"
    if isinstance(spec, DetectorSpec) and not spec.exact_anchors:
        yield "its anchors are not rounded to whole pixels; boxes will differ slightly"


def _body_settings(
    spec: BackboneSpec, mean: Sequence[float], std: Sequence[float], norm: str = "BN"
) -> dict[str, Any]:
    """Detectron2's configuration of a ResNet and of the images it takes."""
    msra = isinstance(spec, DetectorSpec) and spec.stride_in_1x1
    resnets: dict[str, Any] = {"STRIDE_IN_1X1": msra, "NORM": norm}
    if spec.arch in RESNETS:
        first = max(8, round(64 * spec.width))
        resnets |= {
            "DEPTH": int(spec.arch.removeprefix("resnet")),
            "STEM_OUT_CHANNELS": first,
            "RES2_OUT_CHANNELS": first * RESNETS[spec.arch][0].expansion,
            "WIDTH_PER_GROUP": first,
        }
    pixels = [round(255 * value, 4) for value in mean]
    return {
        "MODEL": {
            "PIXEL_MEAN": pixels[::-1] if msra else pixels,
            "PIXEL_STD": [1.0, 1.0, 1.0] if msra else [round(255 * v, 4) for v in std],
            "RESNETS": resnets,
        },
        "INPUT": {"FORMAT": "BGR" if msra else "RGB"},
    }


def _detector_settings(spec: DetectorSpec) -> dict[str, Any]:
    """Detectron2's configuration of a RetinaNet."""
    norm = "FrozenBN" if spec.norm == "frozen" else "BN"
    settings = _body_settings(spec, IMAGENET_MEAN, IMAGENET_STD, norm)
    settings["MODEL"]["RESNETS"]["OUT_FEATURES"] = ["res3", "res4", "res5"]
    settings["MODEL"] |= {
        "META_ARCHITECTURE": "RetinaNet",
        "BACKBONE": {"NAME": "build_retinanet_resnet_fpn_backbone"},
        "FPN": {"IN_FEATURES": ["res3", "res4", "res5"], "OUT_CHANNELS": spec.fpn_channels},
        "ANCHOR_GENERATOR": {"SIZES": anchor_sizes(spec)},
        "RETINANET": {"NUM_CLASSES": len(spec.category_ids), "NUM_CONVS": spec.head_convs},
    }
    settings["INPUT"] |= {"MIN_SIZE_TEST": spec.min_size, "MAX_SIZE_TEST": spec.max_size}
    return settings


def _require_same(path: Path, state: Mapping[str, Tensor]) -> None:
    """Read the file again and compare every entry with what was written.

    Raises:
        OSError: an entry differs.
    """
    read = read_numpy_pickle(path)["model"]
    differing = [k for k in state if k not in read or not torch.equal(read[k], state[k].cpu())]
    if differing or read.keys() != state.keys():
        raise OSError(
            f"{path}: {len(differing)} entries read back differ from those written, "
            f"{', '.join(differing[:3])}; expected the same bits. The disk may be failing"
        )
