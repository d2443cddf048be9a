"""``det=True`` around backbones that return a dict of maps, against maps and losses by hand."""

import pytest
import torch
import torch.nn.functional as F
from detectron2_like import FPN, LEVELS, BottleneckBlock, ResNet
from torch import nn
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mgd_ssl.builder import MGDistiller, mgd_update
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.matching import batchnorm_margin, detection_weights
from mgd_ssl.models import Tap, Taps, create_backbone
from mgd_ssl.models.dict_backbones import DictBackbone
from mgd_ssl.stages import plan_stages

FACTORS = (5e7, 5e7, 5e6, 5e6)


def by_hand(network, x):
    """The sums before each stage's last ReLU, with nothing written in place."""
    x, sums = F.relu(network.stem(x)), []
    for name in LEVELS:
        for block in getattr(network, name):
            total = block.main(x) + (x if block.shortcut is None else block.shortcut(x))
            x = total.relu()
        sums.append(total)
    return sums


def last_norm(network, name):
    block = getattr(network, name)[-1]
    return (block.conv3 if hasattr(block, "conv3") else block.conv2).norm


def shaken(network, seed):
    """Norms that differ from one another, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5)):
                tensor.data = torch.rand(tensor.shape, generator=generator) + low
    return network


def images(seed=0, count=4):
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def teacher(**options):
    torch.manual_seed(0)
    options = {"block": BottleneckBlock, "norm": FrozenBatchNorm2d} | options
    return shaken(ResNet((16, 32, 64, 64), **options), 0)


def student(**options):
    torch.manual_seed(1)
    return shaken(ResNet((8, 16, 32, 32), **options), 1)


def oracle(d_net, teacher_maps, student_maps, margins, kept=range(4)):
    """Σ ℓ_i / f_i by a distiller of bare sums with the same adapters and assignment."""
    plain = FeatureDistiller(
        plan_stages(teacher_maps, student_maps, [f"c{i + 2}" for i in kept]),
        margins,
        adapter="group",
        reduction="sum",
        scale=1.0,
        stage_scale=detection_weights(4).__getitem__,
    )
    state = d_net.distiller.state_dict()
    plain.load_state_dict(state | {k: v for k, v in plain.state_dict().items() if "margin" in k})
    losses = plain(student_maps, teacher_maps)
    for scale, factor in zip(plain.scales, FACTORS, strict=True):
        assert scale == pytest.approx(1 / factor)
    return sum(losses.values())


@pytest.mark.parametrize("depth", [1, 2])  # a last block with a shortcut of its own, and without
def test_detectron2s_maps_and_loss_are_those_by_hand(depth):
    t_net, s_net = teacher(depth=depth), student(depth=depth)
    d_net = MGDistiller(t_net, s_net, with_kd=False, det=True)
    mgd_update([images(1), images(2)], d_net)
    d_net.eval()
    x = images()
    expected, targets = by_hand(s_net, x), [m.detach() for m in by_hand(t_net, x)]
    maps, features = d_net.s_net.extract_feature(x, preReLU=True)
    assert list(features) == list(LEVELS)
    for found, own, feature in zip(maps, expected, features.values(), strict=True):
        assert torch.equal(found, own)
        assert found.min() < 0
        assert torch.equal(found.relu(), feature)
    output, loss = d_net(x)
    assert all(torch.equal(output[n], f) for n, f in features.items())
    margins = [batchnorm_margin(last_norm(t_net, name)) for name in LEVELS]
    assert all(isinstance(last_norm(t_net, n), FrozenBatchNorm2d) for n in LEVELS)
    torch.testing.assert_close(loss, oracle(d_net, targets, expected, margins))


def test_gradients_are_those_by_hand_and_the_teacher_stays_as_it_was():
    t_net, s_net = teacher(), student()
    d_net = MGDistiller(t_net, s_net, with_kd=False, det=True).train()
    mgd_update([images(1)], d_net)
    before = {k: v.clone() for k, v in t_net.state_dict().items()}
    x, margins = images(), [batchnorm_margin(last_norm(t_net, name)) for name in LEVELS]
    output, loss = d_net(x)
    (loss + output["res5"].square().mean()).backward()
    found = [p.grad.clone() for p in s_net.parameters()]
    assert all(p.grad is None for p in t_net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in t_net.state_dict().items())
    s_net.zero_grad()
    maps = by_hand(s_net, x)
    targets = [m.detach() for m in by_hand(t_net, x)]
    (oracle(d_net, targets, maps, margins) + maps[-1].relu().square().mean()).backward()
    for grad, p in zip(found, s_net.parameters(), strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-4, atol=1e-7)


def test_a_step_is_one_pass_of_each_network_and_leaves_no_hook():
    t_net, s_net = teacher(), student()
    d_net = MGDistiller(t_net, s_net, with_kd=False, det=True)
    mgd_update([images(1)], d_net)
    t_net.passes = s_net.passes = 0
    d_net(images())
    assert (t_net.passes, s_net.passes) == (1, 1)
    modules = [*t_net.modules(), *s_net.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_a_pyramids_maps_are_in_the_dict_and_take_part_when_asked():
    t_net = FPN(teacher(out=LEVELS[1:]), 32)
    s_net = FPN(student(out=LEVELS[1:]), 16)
    d_net = MGDistiller(t_net, s_net, [0], with_kd=False, det=True)
    assert [s.name for s in d_net.plan[3:]] == ["c5", "fpn_p3", "fpn_p4", "fpn_p5", "fpn_p6"]
    assert [s.name for s in d_net.distiller.stages] == ["c3", "c4", "c5"]
    every = MGDistiller(t_net, s_net, [*range(4), 7], with_kd=False, det=True, pyramid=True)
    solved = mgd_update([images(1)], every)
    assert [m.name for m in solved] == ["fpn_p3", "fpn_p4", "fpn_p5"]
    x = images()
    output, loss = every.eval()(x)
    assert list(output) == ["p3", "p4", "p5", "p6"]
    # A linear map has no margin: (ŝ − t)² where ŝ > t or t > 0. p3 is the fifth map, f = 5e6.
    expected, targets = 0.0, t_net(x)
    for match, student_map, target in zip(solved, output.values(), targets.values(), strict=False):
        adapted = every.distiller.adapters[match.name](student_map)
        grouped = target[:, match.assignment]  # (N,C_s,G,H,W)
        t = grouped.gather(2, grouped.abs().argmax(2, keepdim=True)).squeeze(2)
        expected += ((adapted - t) ** 2)[(adapted > t) | (t > 0)].sum() / 5e6
    torch.testing.assert_close(loss, expected)


def test_published_indices_of_a_pyramid_may_be_named():
    nets = FPN(teacher(out=LEVELS[1:]), 32), FPN(student(out=LEVELS[1:]), 16)
    d_net = MGDistiller(*nets, ignore_inds=[4, 5, 6, 7], with_kd=False, det=True)
    assert [s.name for s in d_net.distiller.stages] == ["c2", "c3", "c4", "c5"]


def body(width, last=4):
    torch.manual_seed(0)
    network = create_backbone("resnet18", width=width)
    layers = {f"layer{i}": str(i - 1) for i in range(1, last + 1)}
    return IntermediateLayerGetter(shaken(network, 3), layers)


def test_torchvisions_bodies_are_read_before_their_last_relu():
    d_net = MGDistiller(body(0.5, 3), body(0.25, 3), with_kd=False, det=True)
    assert [s.name for s in d_net.distiller.stages] == ["c2", "c3", "c4"]
    mgd_update([images(1)], d_net)
    maps, features = d_net.s_net.extract_feature(images(), preReLU=True)
    output, loss = d_net(images())
    assert list(output) == ["0", "1", "2"]
    for found, feature in zip(maps, features.values(), strict=True):
        assert found.min() < 0
        assert torch.equal(found.relu(), feature)
    loss.backward()
    # No map leaves layer1 without its last convolution.
    assert d_net.s_net.network.layer1[-1].conv2.weight.grad.abs().sum() > 0


def with_pyramid(width):
    channels = [round(c * width) for c in (128, 256, 512)]
    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    network = create_backbone("resnet18", width=width)
    return BackboneWithFPN(network, layers, channels, 16, LastLevelP6P7(16, 16))


def test_torchvisions_pyramids_are_read_below_them():
    d_net = MGDistiller(with_pyramid(0.5), with_pyramid(0.25), with_kd=False, det=True)
    assert [s.index for s in d_net.plan if s.ignored] == [4, 5, 6, 7, 8]
    mgd_update([images(1)], d_net)
    output, loss = d_net(images())
    assert list(output) == ["0", "1", "2", "p6", "p7"]
    assert loss > 0
    maps, _ = d_net.s_net.extract_feature(images(), preReLU=True)
    assert [m.shape[1] for m in maps] == [16, 32, 64, 128, 16, 16, 16, 16, 16]
    after, _ = d_net.s_net.extract_feature(images(), preReLU=False)
    assert after[0].min() == 0
    assert after[4].min() < 0


def test_logits_are_not_asked_of_a_detector():
    with pytest.raises(ValueError, match=r"with_kd: got True with det, .* expected False"):
        MGDistiller(teacher(), student(), det=True, with_kd=True)
    assert MGDistiller(teacher(), student(), det=True).with_kd is False


class Other(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width)

    def forward(self, x):
        return {"a": self.norm(self.conv(x)).relu()}


def test_a_body_without_a_rule_is_answered_with_the_remedy_which_works():
    with pytest.raises(ValueError, match=r"Other: no rule finds its C2..C5.*conv, norm"):
        MGDistiller(Other(8), Other(4), with_kd=False, det=True)
    taps = Taps([Tap("c2", "norm", "output", "norm")])
    nets = DictBackbone(Other(8), taps), DictBackbone(Other(4), taps)
    d_net = MGDistiller(*nets, with_kd=False, det=True)
    mgd_update([images(1)], d_net)
    output, loss = d_net(images())
    assert list(output) == ["a"]
    assert loss > 0


def test_a_classifier_with_det_is_tapped_as_before():
    d_net = MGDistiller(resnet18(), resnet18(), with_kd=False, det=True)
    assert [s.name for s in d_net.plan] == [f"stage{i}" for i in range(4)]
