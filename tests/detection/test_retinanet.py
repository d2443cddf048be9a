"""The detector is torchvision's, its variations aside, and a frozen stem stays frozen."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops import FrozenBatchNorm2d

from mgd_ssl.detection.retinanet import DetectorSpec, create_detector, freeze_stem

THIN = {"width": 0.125, "category_ids": (3, 7, 8), "fpn_channels": 32, "head_convs": 1}
SECOND = {"p6_from": "c5", "head_norm": "group", "box_loss": "giou"}


def thin(arch="resnet18", **options):
    torch.manual_seed(0)
    return create_detector(DetectorSpec(arch, **{**THIN, **options}))


def outputs(detector, images):
    """Everything that boxes and scores are made of: maps, logits, deltas, anchors."""
    with torch.no_grad():
        batch, _ = detector.transform(images)
        features = list(detector.backbone(batch.tensors).values())
        head = detector.head(features)
    return [*features, *head.values(), *detector.anchor_generator(batch, features)]


@pytest.mark.parametrize(
    ("build", "options"),
    [(retinanet_resnet50_fpn, {"norm": "frozen"}), (retinanet_resnet50_fpn_v2, SECOND)],
)
def test_it_computes_what_torchvisions_computes_with_the_same_entries(build, options):
    sides = {"min_size": 64, "max_size": 96}
    theirs = build(weights=None, weights_backbone=None, num_classes=5, **sides).eval()
    spec = DetectorSpec("resnet50", category_ids=tuple(range(5)), **sides, **options)
    ours = create_detector(spec).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = [torch.rand(3, 48, 60)]
    for a, b in zip(outputs(ours, images), outputs(theirs, images), strict=True):
        assert torch.equal(a, b)


def test_its_training_losses_are_those_of_torchvisions_second_detector():
    theirs = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=2)
    assert theirs.head.regression_head._loss_type == "giou"
    assert thin(box_loss="giou").head.regression_head._loss_type == "giou"
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([0])}]
    losses = thin(min_size=64, max_size=64).train()([torch.rand(3, 64, 64)], targets)
    assert losses.keys() == {"classification", "bbox_regression"}
    assert all(loss.isfinite() for loss in losses.values())


def test_default_anchors_are_torchvisions():
    ours, theirs = thin().anchor_generator, _default_anchorgen()
    for a, b in zip(ours.cell_anchors, theirs.cell_anchors, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("smallest", [8, 32])
def test_exact_anchors_have_the_area_and_ratio_of_the_formula(smallest):
    cells = thin(exact_anchors=True, smallest_anchor=smallest).anchor_generator.cell_anchors
    for level, boxes in enumerate(cells):
        expected = []
        for ratio in (0.5, 1, 2):
            for octave in range(3):
                side = smallest * 2 ** (level + octave / 3)
                width, height = side / math.sqrt(ratio), side * math.sqrt(ratio)
                expected.append([-width / 2, -height / 2, width / 2, height / 2])
        torch.testing.assert_close(boxes, torch.tensor(expected))


def test_stride_moves_to_the_1x1_convolution_and_sides_stay():
    here, there = thin("resnet50", stride_in_1x1=True), thin("resnet50")
    for layer in ("layer2", "layer3", "layer4"):
        block, other = getattr(here.backbone.body, layer)[0], getattr(there.backbone.body, layer)[0]
        assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
        assert (other.conv1.stride, other.conv2.stride) == ((1, 1), (2, 2))
    x = torch.rand(2, 3, 64, 64)
    maps, others = here.backbone(x), there.backbone(x)
    assert [m.shape for m in maps.values()] == [m.shape for m in others.values()]
    assert here.state_dict().keys() == there.state_dict().keys()


@pytest.mark.parametrize("source", ["p5", "c5"])
def test_p6_is_made_of_the_map_named_also_where_both_are_as_wide(source):
    detector = thin(fpn_channels=64, p6_from=source).eval()  # C5 of this network: 64 channels
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = detector.backbone(x)
        made_of = {"p5": maps["2"], "c5": detector.backbone.body(x)["2"]}
        assert torch.equal(maps["p6"], detector.backbone.fpn.extra_blocks.p6(made_of[source]))
    assert not torch.equal(made_of["p5"], made_of["c5"])


def test_frozen_norms_are_buffers_with_the_epsilon_asked_for():
    body = thin(norm="frozen", norm_eps=0.0).backbone.body
    norms = [m for m in body.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 20
    assert all(norm.eps == 0 for norm in norms)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in body.modules())


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_frozen_stem_survives_training(norm):
    detector = thin(norm=norm)
    freeze_stem(detector)
    freeze_stem(detector)
    detector.train()
    stem = {k: v.clone() for k, v in detector.state_dict().items() if "body.conv1" in k}
    stem |= {k: v.clone() for k, v in detector.state_dict().items() if "body.bn1" in k}
    others = detector.backbone.body.layer1[0].conv1.weight.clone()
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], 0.1)
    sum(m.square().mean() for m in detector.backbone(torch.rand(2, 3, 64, 64)).values()).backward()
    optimizer.step()
    assert all(torch.equal(detector.state_dict()[k], v) for k, v in stem.items())
    assert len(stem) == 5
    assert not torch.equal(detector.backbone.body.layer1[0].conv1.weight, others)
    assert detector.backbone.body.conv1.weight.grad is None


def test_a_frozen_stem_computes_what_the_stem_computed():
    detector = thin().eval()
    for buffer in ("running_mean", "running_var"):
        getattr(detector.backbone.body.bn1, buffer).uniform_(0.5, 2)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = detector.backbone.body(x)
        freeze_stem(detector)
        after = detector.backbone.body(x)
    for name, map_ in before.items():
        torch.testing.assert_close(after[name], map_)


def test_the_spec_comes_back_from_its_plain_values():
    spec = thin(stride_in_1x1=True, exact_anchors=True).spec
    assert DetectorSpec(**spec.to_dict()) == spec
    assert DetectorSpec(**{**spec.to_dict(), "category_ids": list(spec.category_ids)}) == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"category_ids": ()}, "expected one distinct id per class"),
        ({"category_ids": (1, 1)}, "expected one distinct id per class"),
        ({"p6_from": "p4"}, "p6_from: got 'p4', expected p5 or c5"),
        ({"norm": "sync"}, "expected batch or frozen"),
        ({"fpn_channels": 0}, "expected 1 or more"),
        ({"fpn_channels": 48, "head_norm": "group"}, "a multiple of 32"),
        ({"smallest_anchor": 1}, "expected 4 or more"),
        ({"min_size": 90, "max_size": 80}, "min_size: got 90 with max_size 80"),
        ({"width": 0}, "expected a factor above 0"),
    ],
)
def test_a_spec_that_no_detector_fits_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DetectorSpec(**{**THIN, **options})


def test_a_body_that_is_no_resnet_is_refused():
    build = partial(create_detector, DetectorSpec("mobilenet_v2", category_ids=(1,)))
    with pytest.raises(ValueError, match="expected a ResNet of torchvision"):
        build()
