"""``--to detectron2``: a ResNet or a RetinaNet under Detectron2's names, and its configuration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from mgd_ssl.detection.detectron2 import (
    backbone_from_detectron2,
    backbone_to_detectron2,
    retinanet_from_detectron2,
    retinanet_to_detectron2,
)
from mgd_ssl.detection.numpy_pickle import read_numpy_pickle, write_numpy_pickle
from mgd_ssl.detection.retinanet import DetectorSpec, anchor_sizes, create_detector
from mgd_ssl.exporting.original import Original, outputs_of
from mgd_ssl.exporting.target import Runnable, Target
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models import BackboneSpec, create_backbone
from mgd_ssl.models.filling import fill
from mgd_ssl.models.resnets import RESNETS, scaled

AUTHOR = "mgd_ssl"


class Detectron2(Target):
    """A .pkl of NumPy arrays, which Detectron2 maps to its own names, and a .yaml.

    Detectron2 itself is not installed: the file is read back by the reader of its files here.
    """

    name, ending = "detectron2", ".detectron2.pkl"

    def refusal(self, original: Original) -> str:
        """Whatever its names tell to be no ResNet; of a classifier too, which it has none of."""
        if original.classes and not original.is_detector:
            return "it has a classifier, which Detectron2's backbones lack"
        try:
            _renamed(original)
        except ValueError as error:
            return str(error)
        return ""

    def write(self, original: Original, path: Path) -> None:
        """Write it as MoCo's converter does: Detectron2 then matches names by their suffixes."""
        state = _renamed(original)
        content = {"model": state, "__author__": AUTHOR, "matching_heuristics": True}
        with path.open("wb") as file:
            write_numpy_pickle(file, content)
        _require_same(path, state)

    def load(self, original: Original, path: Path) -> Runnable:
        """Read the file back under torchvision's names."""
        spec, state = original.spec, cast(dict[str, Tensor], read_numpy_pickle(path)["model"])
        with torch.random.fork_rng(devices=[]):
            if isinstance(spec, DetectorSpec):
                network: nn.Module = create_detector(spec).eval()
                state = retinanet_from_detectron2(state, bgr=spec.stride_in_1x1)
            else:
                network = create_backbone(**spec.to_dict()).eval()
                state = backbone_from_detectron2(state)
        fill(network, state, original.report, "The file may be damaged")
        return lambda images: outputs_of(network, images, original.output)

    def loading(self, original: Original, file: str) -> list[str]:
        """Detectron2's own way: by its configuration."""
        settings = str(Path(file).with_suffix(".yaml"))
        return [
            "from detectron2.config import get_cfg",
            f"config = get_cfg(); config.merge_from_file({settings!r})",
            f"config.MODEL.WEIGHTS = {file!r}",
        ]

    def beside(self, original: Original) -> dict[str, str]:
        """Detectron2's configuration."""
        spec, contract = original.spec, original.contract
        if isinstance(spec, DetectorSpec):
            settings = _detector_settings(spec)
        else:
            settings = _body_settings(spec, contract.mean, contract.std)
        return {".yaml": yaml.safe_dump(settings, sort_keys=False)}

    def caveats(self, original: Original) -> list[str]:
        """Properties that Detectron2's own builders cannot be configured for."""
        return list(_caveats(original.spec))


def _renamed(original: Original) -> dict[str, Tensor]:
    """The weights under Detectron2's names."""
    spec, state = original.spec, original.state
    if isinstance(spec, DetectorSpec):
        return retinanet_to_detectron2(state, spec)
    return backbone_to_detectron2(state)


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
        first = scaled(64, spec.width)
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
