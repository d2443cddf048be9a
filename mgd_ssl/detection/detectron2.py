"""Convert state dicts of ResNets and RetinaNets between Detectron2's names and torchvision's.

Detectron2's files do not record the norms' epsilon; it is always 1e-5.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mgd_ssl.detection.retinanet import OCTAVES, RATIOS, DetectorSpec
from mgd_ssl.images import IMAGENET_STD

State = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

EPS = 1e-5
BODY = "backbone.bottom_up."
_FPN, _CLASSES, _BOXES = "backbone.fpn.", "head.classification_head.", "head.regression_head."
# COCO's 80 categories, in the order of Detectron2's outputs; ten ids between 1 and 90 are unused.
COCO_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))

# Entries without a counterpart here: classifiers of ImageNet, the bias of Caffe2's first
# convolution, which Detectron2 drops too, and the configuration in old RetinaNet files.
_LEFT_OUT = re.compile(
    r"^((stem\.)?(fc|fc1000|linear|pred)[._]|stem\.conv1\.bias$|pixel_(mean|std)$|"
    r"anchor_generator\.cell_anchors\.)"
)
_BODY_KEY = re.compile(
    r"stem\.conv1\.(norm\.)?\w+|res[2-5]\.\d+\.(conv[123]|shortcut)\.(norm\.)?\w+"
)
_TO_BODY: tuple[Rule, ...] = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer([1-4])\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"\.bn([123])\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
_FROM_BODY: tuple[Rule, ...] = (
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.conv1\.", "conv1."),
    (r"^res([2-5])\.", lambda m: f"layer{int(m[1]) - 1}."),
    (r"\.conv([123])\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
_TO_DETECTOR: tuple[Rule, ...] = (
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 3}."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_output{int(m[1]) + 3}."),
    (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
    (
        r"^head\.classification_head\.conv\.(\d+)\.0\.",
        lambda m: f"head.cls_subnet.{int(m[1]) * 2}.",
    ),
    (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
    (r"^head\.regression_head\.conv\.(\d+)\.0\.", lambda m: f"head.bbox_subnet.{int(m[1]) * 2}."),
    (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
)
_FROM_DETECTOR: tuple[Rule, ...] = (
    (
        r"^backbone\.fpn_lateral([345])\.(?=\w+$)",
        lambda m: f"{_FPN}inner_blocks.{int(m[1]) - 3}.0.",
    ),
    (r"^backbone\.fpn_output([345])\.(?=\w+$)", lambda m: f"{_FPN}layer_blocks.{int(m[1]) - 3}.0."),
    (r"^backbone\.top_block\.", "backbone.fpn.extra_blocks."),
    (r"^head\.cls_subnet\.(\d*[02468])\.", lambda m: f"{_CLASSES}conv.{int(m[1]) // 2}.0."),
    (r"^head\.cls_score\.", "head.classification_head.cls_logits."),
    (r"^head\.bbox_subnet\.(\d*[02468])\.", lambda m: f"{_BOXES}conv.{int(m[1]) // 2}.0."),
    (r"^head\.bbox_pred\.", "head.regression_head.bbox_reg."),
)
_CAFFE2: tuple[Rule, ...] = (
    (r"^(res_)?conv1_", "stem.conv1_"),
    (r"^(res[2-5])_(\d+)_branch", r"\1.\2.branch"),
    (r"\.branch1_", ".shortcut_"),
    (r"\.branch2([abc])_", lambda m: f".conv{'abc'.index(m[1]) + 1}_"),
    (r"_bn_s$", ".norm.weight"),
    (r"_bn_b$", ".norm.bias"),
    (r"_bn_rm$", ".norm.running_mean"),
    (r"_bn_riv$", ".norm.running_var"),
    (r"^(stem|res\d)(.*)_w$", r"\1\2.weight"),
    (r"^(stem|res\d)(.*)_b$", r"\1\2.bias"),
)


def backbone_to_detectron2(
    state: Mapping[str, Tensor], *, bgr: bool = False, eps: float = EPS
) -> State:
    """Rename a ResNet's entries to Detectron2's.

    Args:
        state: torchvision's names, without the classifier.
        bgr: write the first convolution for BGR pixels in 0..255 minus their mean, with std 1.
        eps: epsilon of the network's norms; its difference from 1e-5 is added to the variances.

    Raises:
        ValueError: an entry that a ResNet does not have.
    """
    renamed = {_rename(key, _TO_BODY): value for key, value in state.items()}
    wrong = next((k for k in renamed if not _BODY_KEY.fullmatch(k)), None)
    if wrong is not None:
        raise ValueError(
            f"detectron2: got the entry {wrong!r}, expected those of a torchvision ResNet without "
            "its classifier; Detectron2 has no other backbone with these names"
        )
    for key in (k for k in renamed if k.endswith("running_var") and eps != EPS):
        renamed[key] = (renamed[key].double() + (eps - EPS)).to(renamed[key].dtype)
    if bgr:
        renamed["stem.conv1.weight"] = _scaled_pixels(renamed["stem.conv1.weight"], -1)
    return renamed


def backbone_from_detectron2(state: Mapping[str, Tensor], *, bgr: bool = False) -> State:
    """Rename the entries of Detectron2's ResNet, or Caffe2's, to torchvision's.

    Entries that `is_left_out` names are dropped; others that match no rule keep their names. A norm
    without statistics, as in MSRA's weights, is an affine map; it gets a mean and a variance that
    keep it one.

    Args:
        state: Detectron2's names, with or without ``backbone.bottom_up.``.
        bgr: the first convolution takes BGR pixels in 0..255 minus their mean, with std 1; it is
            rewritten for RGB in [0,1] minus ImageNet's mean, divided by its std.
    """
    named = {_body_name(key): value for key, value in state.items()}
    renamed = {
        _rename(key, _FROM_BODY): value for key, value in named.items() if not is_left_out(key)
    }
    for key in [k for k in renamed if re.search(r"(bn\d|downsample\.1)\.weight$", k)]:
        prefix, weight = key.removesuffix("weight"), renamed[key]
        renamed.setdefault(prefix + "running_mean", torch.zeros_like(weight))
        renamed.setdefault(prefix + "running_var", torch.full_like(weight, 1 - EPS))
    if bgr and "conv1.weight" in renamed:
        renamed["conv1.weight"] = _scaled_pixels(renamed["conv1.weight"], 1)
    return renamed


def retinanet_to_detectron2(state: Mapping[str, Tensor], spec: DetectorSpec) -> State:
    """Rename a detector's entries to Detectron2's, and reorder the anchors.

    Raises:
        ValueError: heads with group norm; their convolutions have a bias in Detectron2, and none
            in torchvision.
    """
    if spec.head_norm != "none":
        raise ValueError(
            "detectron2: got heads with group norm, which Detectron2 builds otherwise; expected "
            "head_norm 'none', as in torchvision's retinanet_resnet50_fpn"
        )
    prefix = "backbone.body."
    body = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    body = backbone_to_detectron2(body, bgr=spec.stride_in_1x1, eps=spec.norm_eps)
    renamed = {BODY + key: value for key, value in body.items()}
    for key, value in state.items():
        if not key.startswith(prefix):
            renamed[_rename(key, _TO_DETECTOR)] = _reordered(key, value)
    return renamed


def retinanet_from_detectron2(state: Mapping[str, Tensor], *, bgr: bool = False) -> State:
    """Rename a Detectron2 RetinaNet's entries to torchvision's, and reorder the anchors.

    See `backbone_from_detectron2`. Group norms of the heads and the pyramid keep their names: the
    detectors here have none in those places.
    """
    body = {k: v for k, v in state.items() if k.startswith(BODY)}
    renamed = {
        "backbone.body." + key: value
        for key, value in backbone_from_detectron2(body, bgr=bgr).items()
    }
    for key, value in state.items():
        if not key.startswith(BODY) and not is_left_out(key):
            name = _rename(key, _FROM_DETECTOR)
            renamed[name] = _reordered(name, value)
    return renamed


def is_left_out(key: str) -> bool:
    """Whether an entry of a Detectron2 file is not a weight of a ResNet or a RetinaNet."""
    return _LEFT_OUT.match(_body_name(key)) is not None


def is_msra(state: Mapping[str, Tensor]) -> bool:
    """Whether a Detectron2 state builds on MSRA's weights: BGR pixels, stride in the 1×1.

    A file shows it by a pixel std of 1, if it records one, or by a first norm that is an affine
    map without a mean. Norms that were trained since do not show it.
    """
    named = {_body_name(key): value for key, value in state.items()}
    if "pixel_std" in named:
        return bool((named["pixel_std"] == 1).all())
    norm = "stem.conv1.norm."
    mean = named.get(norm + "running_mean")
    affine = mean is None or not mean.any()
    return norm + "weight" in named and norm + "num_batches_tracked" not in named and affine


def _body_name(key: str) -> str:
    return _rename(key.removeprefix(BODY), _CAFFE2)


def _rename(key: str, rules: Sequence[Rule]) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key


def _scaled_pixels(weight: Tensor, sign: int) -> Tensor:
    """Convert (C,3,k,k) from BGR in 0..255 to RGB divided by ImageNet's std; back if sign < 0.

    The means need no conversion: they are subtracted before padding in both.
    """
    scale = torch.tensor([255 * s for s in IMAGENET_STD], dtype=torch.float64).view(3, 1, 1)
    if sign > 0:
        return (weight.flip(1).double() * scale).to(weight.dtype)
    return (weight.double() / scale).to(weight.dtype).flip(1)


def _reordered(key: str, value: Tensor) -> Tensor:
    """Reorder the anchors of a place: by ratio, then size in torchvision; Detectron2 reversed."""
    if "cls_logits" not in key and "bbox_reg" not in key:
        return value
    sizes, ratios = len(OCTAVES), len(RATIOS)  # equal, so the same step converts back
    if len(value) % (sizes * ratios):
        raise ValueError(
            f"detectron2: {key} has {len(value)} outputs, expected a multiple of the "
            f"{sizes * ratios} anchors at each place"
        )
    return value.reshape(sizes, ratios, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
