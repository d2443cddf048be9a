"""torchvision's RetinaNet on any of its ResNets."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import Conv2dNormActivation, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.matching.margins import is_batch_norm
from mgd_ssl.models.backbones import BackboneSpec, create_backbone

PYRAMID_LEVELS = 5  # P3 to P7
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)  # height / width
ANCHORS = len(OCTAVES) * len(RATIOS)  # at each place of a map
GROUPS = 32  # of group norm


@dataclass(frozen=True, kw_only=True)
class DetectorSpec(BackboneSpec):
    """Everything needed to rebuild a detector; saved with every checkpoint.

    The body is a torchvision ResNet, described as in `BackboneSpec`.

    Attributes:
        category_ids: COCO ids of the outputs 0..K-1.
        fpn_channels: channels of P3..P7.
        head_convs: convolutions of each head's tower.
        smallest_anchor: side in pixels of P3's smallest anchor; each level doubles it.
        p6_from: map that P6 is computed from: p5 in torchvision's first RetinaNet, c5 in its
            second and in Detectron2's.
        norm: batch norms of the body; ``frozen`` ones are buffers, as in torchvision's COCO
            weights.
        stride_in_1x1: whether bottlenecks have their stride in the 1×1 convolution, as with
            MSRA's weights, rather than in the 3×3.
        exact_anchors: whether anchors keep their fractions of a pixel, as in Detectron2;
            torchvision rounds their sizes and corners.
        min_size: shorter side of resized images, in pixels.
        max_size: upper limit of their longer side, in pixels.
        norm_eps: epsilon of the body's norms.
        head_norm: norm in the heads; ``group`` (32 groups) in torchvision's second RetinaNet.
        box_loss: ``l1``, or ``giou`` as in torchvision's second RetinaNet.
    """

    category_ids: tuple[int, ...]
    fpn_channels: int = 256
    head_convs: int = 4
    smallest_anchor: float = 32
    p6_from: Literal["p5", "c5"] = "p5"
    norm: Literal["batch", "frozen"] = "batch"
    stride_in_1x1: bool = False
    exact_anchors: bool = False
    min_size: int = 800
    max_size: int = 1333
    norm_eps: float = 1e-5
    head_norm: Literal["none", "group"] = "none"
    box_loss: Literal["l1", "giou"] = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "category_ids", tuple(int(i) for i in self.category_ids))
        if not self.category_ids or len(set(self.category_ids)) < len(self.category_ids):
            raise ValueError(
                f"category_ids: got {self.category_ids}, expected one distinct id per class"
            )
        self._check_choice("p6_from", ("p5", "c5"))
        self._check_choice("norm", ("batch", "frozen"))
        self._check_choice("head_norm", ("none", "group"))
        self._check_choice("box_loss", ("l1", "giou"))
        if self.fpn_channels < 1 or self.head_convs < 0:
            raise ValueError(
                f"detector: got {self.fpn_channels} fpn_channels and {self.head_convs} head_convs, "
                "expected 1 or more and 0 or more"
            )
        if self.head_norm == "group" and self.fpn_channels % GROUPS:
            raise ValueError(
                f"fpn_channels: got {self.fpn_channels}, expected a multiple of {GROUPS} for heads "
                "with group norm"
            )
        if not self.norm_eps >= 0:
            raise ValueError(f"norm_eps: got {self.norm_eps}, expected 0 or more")
        if self.smallest_anchor < 4:  # below it rounding leaves boxes without area
            raise ValueError(f"smallest_anchor: got {self.smallest_anchor}, expected 4 or more")
        if not 1 <= self.min_size <= self.max_size:
            raise ValueError(
                f"min_size: got {self.min_size} with max_size {self.max_size}, expected "
                "1 <= min_size <= max_size"
            )

    @property
    def body(self) -> BackboneSpec:
        """What builds the body alone."""
        return BackboneSpec(**{f.name: getattr(self, f.name) for f in fields(BackboneSpec)})

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(
                f"{name}: got {getattr(self, name)!r}, expected {' or '.join(choices)}"
            )


def create_detector(spec: DetectorSpec) -> RetinaNet:
    """Build a RetinaNet with random weights.

    Returns:
        A detector of torchvision's class and keys, with ``spec`` as an attribute. It normalizes
        images with ImageNet's mean and std. Its labels 0..K-1 are positions in
        ``spec.category_ids``.

    Raises:
        ValueError: the architecture is not one of torchvision's ResNets.
    """
    body = _create_body(spec)
    channels = [_width(getattr(body, layer)) for layer in ("layer2", "layer3", "layer4")]
    source = spec.fpn_channels if spec.p6_from == "p5" else channels[-1]
    extra = LastLevelP6P7(source, spec.fpn_channels)
    extra.use_P5 = spec.p6_from == "p5"  # torchvision compares widths, which may be equal
    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(body, layers, channels, spec.fpn_channels, extra)
    detector = RetinaNet(
        backbone,
        len(spec.category_ids),
        min_size=spec.min_size,
        max_size=spec.max_size,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        anchor_generator=_create_anchors(spec),
        head=_create_head(spec),
    )
    detector.spec = spec
    return detector


def _create_body(spec: DetectorSpec) -> nn.Module:
    body = create_backbone(
        spec.arch, width=spec.width, stem=spec.stem, stem_stride=spec.stem_stride
    )
    if not isinstance(body, ResNet):
        raise ValueError(
            f"arch: got {spec.arch!r}, a {type(body).__name__}, expected a ResNet of torchvision "
            "as the detector's body: resnet18, resnet50, …"
        )
    for block in (m for m in body.modules() if spec.stride_in_1x1 and isinstance(m, Bottleneck)):
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    for module in body.modules():
        if is_batch_norm(module):
            module.eps = spec.norm_eps  # type: ignore[assignment]
    if spec.norm == "frozen":
        _freeze_norms(body)
    return body  # type: ignore[no-any-return]


def _width(layer: nn.Sequential) -> int:
    """Output channels of a ResNet's layer of basic or bottleneck blocks."""
    return [m for m in layer[-1].children() if isinstance(m, nn.Conv2d)][-1].out_channels


def _freeze_norms(network: nn.Module) -> None:
    for name, child in network.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(network, name, _frozen(child))
        else:
            _freeze_norms(child)


def _frozen(norm: nn.modules.batchnorm._BatchNorm) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
    frozen.load_state_dict(norm.state_dict())
    return frozen.to(norm.weight.device)


def _create_head(spec: DetectorSpec) -> RetinaNetHead:
    layer = partial(nn.GroupNorm, GROUPS) if spec.head_norm == "group" else None
    channels = spec.fpn_channels
    head = RetinaNetHead(channels, ANCHORS, len(spec.category_ids), norm_layer=layer)
    for part in (head.classification_head, head.regression_head):
        convs = [
            Conv2dNormActivation(channels, channels, norm_layer=layer)
            for _ in range(spec.head_convs)
        ]
        part.conv = nn.Sequential(*convs)
        for conv in (m for m in part.conv.modules() if isinstance(m, nn.Conv2d)):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
    head.regression_head._loss_type = spec.box_loss
    return head


class ExactAnchorGenerator(AnchorGenerator):  # type: ignore[misc]
    """Anchors as Detectron2 has them: their sides are not rounded to whole pixels."""

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """(9,4) x1, y1, x2, y2 around the origin, ratio-major."""
        widths = [(scale / r**0.5, scale * r**0.5) for r in aspect_ratios for scale in scales]
        boxes = [(-w / 2, -h / 2, w / 2, h / 2) for w, h in widths]
        return torch.tensor(boxes, dtype=dtype, device=device)


def anchor_sizes(spec: DetectorSpec) -> list[list[float]]:
    """Sides in pixels of the square anchors of P3..P7, three each."""
    bases = [spec.smallest_anchor * 2**level for level in range(PYRAMID_LEVELS)]
    sizes = [[base * octave for octave in OCTAVES] for base in bases]
    return sizes if spec.exact_anchors else [[float(int(side)) for side in row] for row in sizes]


def _create_anchors(spec: DetectorSpec) -> AnchorGenerator:
    generator = ExactAnchorGenerator if spec.exact_anchors else AnchorGenerator
    return generator(tuple(map(tuple, anchor_sizes(spec))), (RATIOS,) * PYRAMID_LEVELS)


def freeze_stem(detector: RetinaNet) -> None:
    """Freeze the stem: no gradients, and statistics that ``train()`` does not update."""
    body = detector.backbone.body
    body.conv1.requires_grad_(False)
    if isinstance(body.bn1, nn.modules.batchnorm._BatchNorm):
        body.bn1 = _frozen(body.bn1)
