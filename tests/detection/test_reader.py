"""Maps before their last ReLU, in one pass of the backbone, with the norms of their margins."""

from collections import Counter

import pytest
import torch
from torch import nn

from mgd_ssl.detection.reader import body_reader
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.matching.margins import batchnorm_margin, is_batch_norm
from mgd_ssl.stages import plan_stages, read_margins

ALL = ("c2", "c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7")


@pytest.fixture(params=[("resnet18", "batch"), ("resnet50", "frozen")], ids=str)
def detector(request):
    torch.manual_seed(0)
    arch, norm = request.param
    spec = DetectorSpec(arch, 0.125, category_ids=(1, 2), fpn_channels=32, head_convs=1, norm=norm)
    return create_detector(spec).eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 64, 64)


def count_calls(detector):
    calls = Counter()
    for name, module in detector.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls


@torch.no_grad()
def test_maps_are_those_before_the_last_relu(detector, x):
    before = detector.backbone(x)
    maps, features = body_reader(detector)(detector, x)
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2]
    assert all(m.min() < 0 for m in maps)
    for map_, after in zip(maps[1:], detector.backbone.body(x).values(), strict=True):
        assert torch.equal(map_.relu(), after)
    assert features.keys() == before.keys()
    assert all(torch.equal(features[k], before[k]) for k in before)


@torch.no_grad()
def test_the_backbone_runs_once(detector, x):
    reader = body_reader(detector, ALL)
    calls = count_calls(detector)
    reader(detector, x)
    convolutions = [
        name for name, m in detector.backbone.named_modules() if isinstance(m, nn.Conv2d)
    ]
    assert all(calls[f"backbone.{name}"] == 1 for name in convolutions)


@torch.no_grad()
def test_the_body_alone_gives_the_same_maps_without_the_pyramid(detector, x):
    reader = body_reader(detector)
    maps = reader(detector, x)[0]
    calls = count_calls(detector)
    for a, b in zip(reader.body(detector, x), maps, strict=True):
        assert torch.equal(a, b)
    assert calls["backbone.body"] == 1
    assert not any("fpn" in name for name in calls)


@torch.no_grad()
def test_pyramid_maps_are_what_the_heads_take_and_have_no_norm(detector, x):
    reader = body_reader(detector, ("p3", "c4", "p4", "p5", "p6", "p7"))
    assert reader.names == ["p3", "c4", "p4", "p5", "p6", "p7"]
    maps, features = reader(detector, x)
    for a, b in zip([maps[0], *maps[2:]], features.values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(reader.body(detector, x), maps, strict=True):
        assert torch.equal(a, b)
    norms = reader.norms(detector)
    assert [norm is None for norm in norms] == [True, False, True, True, True, True]


@torch.no_grad()
def test_norms_are_the_last_of_the_main_branch_and_give_the_margins(detector, x):
    last = "bn3" if detector.spec.arch == "resnet50" else "bn2"
    body = detector.backbone.body
    expected = [getattr(layer[-1], last) for layer in (body.layer1, body.layer2, body.layer3)]
    for norm in [*expected, getattr(body.layer4[-1], last)]:
        norm.weight.uniform_(-2, 2)
        norm.bias.uniform_(-2, 2)
    reader = body_reader(detector)
    norms = reader.norms(detector)
    assert norms[:3] == expected
    maps = reader(detector, x)[0]
    margins = read_margins(norms, plan_stages(maps, maps, reader.names))
    for margin, norm in zip(margins, norms, strict=True):
        plain = nn.BatchNorm2d(len(norm.weight))
        plain.weight.copy_(norm.weight)
        plain.bias.copy_(norm.bias)
        assert torch.equal(margin, batchnorm_margin(plain))


class Detectron2Norm(nn.Module):
    """What Detectron2's FrozenBatchNorm2d keeps: four buffers, and no common base class."""

    def __init__(self, channels):
        super().__init__()
        self.num_features = channels
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels))


def test_frozen_norms_of_others_count_as_batch_norms():
    norm, plain = Detectron2Norm(5), nn.BatchNorm2d(5)
    plain.load_state_dict(norm.state_dict(), strict=False)
    assert is_batch_norm(norm)
    assert is_batch_norm(norm, 5)
    assert not is_batch_norm(norm, 4)
    assert torch.equal(batchnorm_margin(norm), batchnorm_margin(plain))
    others = (None, nn.GroupNorm(1, 5), nn.Conv2d(5, 5, 1), nn.LayerNorm(5), nn.InstanceNorm2d(5))
    assert not any(map(is_batch_norm, others))


@pytest.mark.parametrize("levels", [(), ("c1",), ("c2", "c2"), ("layer1",)])
def test_levels_that_do_not_exist_are_refused(detector, levels):
    with pytest.raises(ValueError, match="levels: got"):
        body_reader(detector, levels)
