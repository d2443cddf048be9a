"""Names, pixels and anchors of Detectron2, there and back."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import FrozenBatchNorm2d

from mgd_ssl.detection.detectron2 import (
    COCO_IDS,
    backbone_from_detectron2,
    backbone_to_detectron2,
    is_left_out,
    is_msra,
    retinanet_from_detectron2,
    retinanet_to_detectron2,
)
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.models import backbone_state, create_backbone

# In Detectron2's defaults: BGR, of pixels in 0..255.
PIXEL_MEAN = torch.tensor([103.53, 116.28, 123.675], dtype=torch.float64).view(3, 1, 1)
NAMES = {
    "conv1.weight": "stem.conv1.weight",
    "bn1.running_var": "stem.conv1.norm.running_var",
    "layer1.0.conv1.weight": "res2.0.conv1.weight",
    "layer1.0.downsample.0.weight": "res2.0.shortcut.weight",
    "layer1.0.downsample.1.bias": "res2.0.shortcut.norm.bias",
    "layer3.5.bn3.weight": "res4.5.conv3.norm.weight",
    "layer4.2.bn2.num_batches_tracked": "res5.2.conv2.norm.num_batches_tracked",
}
DETECTOR_NAMES = {
    "backbone.body.layer2.0.conv2.weight": "backbone.bottom_up.res3.0.conv2.weight",
    "backbone.fpn.inner_blocks.0.0.weight": "backbone.fpn_lateral3.weight",
    "backbone.fpn.layer_blocks.2.0.bias": "backbone.fpn_output5.bias",
    "backbone.fpn.extra_blocks.p7.weight": "backbone.top_block.p7.weight",
    "head.classification_head.conv.3.0.weight": "head.cls_subnet.6.weight",
    "head.classification_head.cls_logits.bias": "head.cls_score.bias",
    "head.regression_head.conv.1.0.bias": "head.bbox_subnet.2.bias",
    "head.regression_head.bbox_reg.weight": "head.bbox_pred.weight",
}


def filled(network):
    """The state with every entry random, statistics and counters too."""
    torch.manual_seed(0)
    return {
        k: torch.rand_like(v) + 0.5 if v.is_floating_point() else torch.randint_like(v, 1, 99)
        for k, v in network.state_dict().items()
    }


def thin_detector(arch="resnet18", **options):
    options = {"category_ids": (1, 2, 5), "fpn_channels": 32, "p6_from": "c5"} | options
    return create_detector(DetectorSpec(arch, 0.125, **options))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_names_of_a_resnet_are_detectron2s():
    state = filled(create_backbone("resnet50", width=0.125))
    renamed = backbone_to_detectron2(state)
    assert all(torch.equal(renamed[there], state[here]) for here, there in NAMES.items())


def test_names_of_a_retinanet_are_detectron2s():
    detector = thin_detector("resnet50")
    renamed = retinanet_to_detectron2(filled(detector), detector.spec)
    assert set(DETECTOR_NAMES.values()) <= renamed.keys()
    shapes = {k: v.shape for k, v in detector.state_dict().items()}
    assert all(renamed[there].shape == shapes[here] for here, there in DETECTOR_NAMES.items())
    firsts = {key.split(".")[1] for key in renamed}
    laterals = {f"fpn_{kind}{level}" for kind in ("lateral", "output") for level in (3, 4, 5)}
    towers = {"cls_subnet", "cls_score", "bbox_subnet", "bbox_pred"}
    assert firsts == {"bottom_up", "top_block", *laterals, *towers}


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_a_resnet_comes_back_bit_for_bit(arch):
    state = filled(create_backbone(arch, width=0.125))
    assert same(backbone_from_detectron2(backbone_to_detectron2(state)), state)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_a_retinanet_comes_back_bit_for_bit(arch, norm):
    detector = thin_detector(arch, norm=norm)
    state = filled(detector)
    there = retinanet_to_detectron2(state, detector.spec)
    assert len(there) == len(state)
    assert same(retinanet_from_detectron2(there), state)


@pytest.fixture
def bgr_weight():
    torch.manual_seed(0)
    return torch.randn(8, 3, 7, 7, dtype=torch.float64)


def test_first_convolution_for_bgr_computes_the_same_from_normalized_rgb(bgr_weight):
    pixels = torch.randint(0, 256, (2, 3, 32, 40)).double()  # RGB
    there = F.conv2d(pixels.flip(1) - PIXEL_MEAN, bgr_weight, stride=2, padding=3)
    detector = thin_detector()
    normalized = torch.stack([detector.transform.normalize(x) for x in pixels / 255])
    state = {"stem.conv1.weight": bgr_weight}
    weight = backbone_from_detectron2(state, bgr=True)["conv1.weight"]
    here = F.conv2d(normalized, weight, stride=2, padding=3)
    torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-8)


def test_first_convolution_for_bgr_comes_back(bgr_weight):
    state = {"stem.conv1.weight": bgr_weight.float()}
    back = backbone_to_detectron2(backbone_from_detectron2(state, bgr=True), bgr=True)
    torch.testing.assert_close(back, state, rtol=3e-7, atol=0)  # within a unit of the last place
    assert backbone_from_detectron2(state)["conv1.weight"] is state["stem.conv1.weight"]


def test_another_epsilon_moves_into_the_variances():
    variance = torch.tensor([1e-3, 1.0])
    there = backbone_to_detectron2({"bn1.running_var": variance}, eps=0.0)
    torch.testing.assert_close(there["stem.conv1.norm.running_var"] + 1e-5, variance)


@torch.no_grad()
def test_every_anchor_keeps_its_logits_and_deltas():
    """Detectron2's heads by hand: at a place, sizes go before ratios."""
    detector = thin_detector(exact_anchors=True, head_convs=0)
    there = retinanet_to_detectron2(filled(detector), detector.spec)
    state = retinanet_from_detectron2(there)
    detector.load_state_dict(state)
    x = torch.randn(1, 32, 1, 1)
    boxes = []
    for octave, ratio in itertools.product(range(3), (0.5, 1.0, 2.0)):
        side = 32 * 2 ** (octave / 3)
        boxes.append([side / ratio**0.5, side * ratio**0.5])
    theirs = torch.cat(
        [
            torch.tensor(boxes),
            F.conv2d(x, there["head.cls_score.weight"], there["head.cls_score.bias"], padding=1)
            .view(9, 3),
            F.conv2d(x, there["head.bbox_pred.weight"], there["head.bbox_pred.bias"], padding=1)
            .view(9, 4),
        ],
        1,
    )  # fmt: skip
    head = detector.head([x])
    cells = detector.anchor_generator.cell_anchors[0]
    ours = torch.cat(
        [cells[:, 2:] - cells[:, :2], head["cls_logits"][0], head["bbox_regression"][0]], 1
    )
    assert not torch.allclose(ours[:, :2], theirs[:, :2])  # the orders do differ
    by_size = [sorted(rows.tolist()) for rows in (ours, theirs)]
    torch.testing.assert_close(torch.tensor(by_size[0]), torch.tensor(by_size[1]))


CAFFE2 = {
    "conv1_w": "conv1.weight",
    "res_conv1_bn_s": "bn1.weight",
    "res_conv1_bn_b": "bn1.bias",
    "res2_0_branch1_w": "layer1.0.downsample.0.weight",
    "res2_0_branch1_bn_s": "layer1.0.downsample.1.weight",
    "res4_22_branch2a_w": "layer3.22.conv1.weight",
    "res5_2_branch2b_bn_b": "layer4.2.bn2.bias",
    "res3_1_branch2c_bn_s": "layer2.1.bn3.weight",
    "res3_1_branch2c_bn_rm": "layer2.1.bn3.running_mean",
}


def test_caffe2s_names_are_read():
    state = {name: torch.rand(4) for name in CAFFE2}
    dropped = {"fc1000_w": torch.rand(2), "fc1000_b": torch.rand(2), "conv1_b": torch.zeros(4)}
    renamed = backbone_from_detectron2(state | dropped)
    assert all(torch.equal(renamed[here], state[there]) for there, here in CAFFE2.items())
    statistics = {k for k in renamed if k.endswith(("running_mean", "running_var"))}
    assert renamed.keys() - statistics == set(CAFFE2.values()) - statistics


def test_a_norm_without_statistics_is_the_affine_map_it_was():
    state = {"stem.conv1.norm.weight": torch.rand(4), "stem.conv1.norm.bias": torch.rand(4)}
    norm = FrozenBatchNorm2d(4)
    renamed = backbone_from_detectron2(state)
    norm.load_state_dict({k.removeprefix("bn1."): v for k, v in renamed.items()}, strict=True)
    x = torch.randn(2, 4, 3, 3)
    weight, bias = (v.view(4, 1, 1) for v in state.values())
    torch.testing.assert_close(norm(x), x * weight + bias)


def test_msras_weights_are_told_from_others():
    stem = "backbone.bottom_up.stem.conv1.norm."
    affine = {stem + "weight": torch.ones(4), stem + "running_mean": torch.zeros(4)}
    trained = affine | {stem + "running_mean": torch.rand(4)}
    assert is_msra(affine)
    assert is_msra({"res_conv1_bn_s": torch.ones(4)})
    assert not is_msra(trained)
    assert not is_msra(affine | {stem + "num_batches_tracked": torch.tensor(0)})
    assert is_msra(trained | {"pixel_std": torch.ones(3, 1, 1)})
    assert not is_msra(affine | {"pixel_std": torch.tensor([58.395, 57.12, 57.375])})
    assert not is_msra({})


def test_entries_without_weights_are_left_out():
    extra = ["pixel_mean", "pixel_std", "anchor_generator.cell_anchors.3", "stem.fc.weight"]
    extra += ["fc1000_w", "linear.weight", "conv1_b", "pred_w"]
    assert all(map(is_left_out, extra))
    assert not any(map(is_left_out, [*NAMES.values(), *DETECTOR_NAMES.values(), "conv1_w"]))
    assert retinanet_from_detectron2({key: torch.zeros(1) for key in extra}) == {}


def test_group_norms_of_a_pyramid_or_head_keep_their_names():
    extra = ["head.cls_subnet.1.weight", "backbone.fpn_lateral3.norm.weight"]
    assert retinanet_from_detectron2({k: torch.zeros(1) for k in extra}).keys() == set(extra)


def test_the_coco_ids_are_the_eighty_with_their_gaps():
    assert len(COCO_IDS) == 80
    assert COCO_IDS[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    assert COCO_IDS[-1] == 90


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="expected those of a torchvision ResNet"):
        backbone_to_detectron2(backbone_state(create_backbone("mobilenet_v2", width=0.25)))
    detector = thin_detector(head_norm="group")
    with pytest.raises(ValueError, match="got heads with group norm"):
        retinanet_to_detectron2(detector.state_dict(), detector.spec)
    with pytest.raises(ValueError, match="a multiple of the 9 anchors"):
        retinanet_from_detectron2({"head.cls_score.bias": torch.zeros(10)})
