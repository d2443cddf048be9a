"""Taps read the maps before the activation, and the network computes what it computed before."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mgd_ssl.models import (
    ContractReader,
    Tap,
    TappedNetwork,
    Taps,
    create_backbone,
    find_reader,
    find_taps,
    probe,
)

BASIC = ((64, 56), (128, 28), (256, 14), (512, 7))
WIDE = ((256, 56), (512, 28), (1024, 14), (2048, 7))
MOBILENET_V1 = ((128, 56), (256, 28), (512, 14), (1024, 7))
MOBILENET_V2 = ((144, 28), (192, 28), (384, 14), (960, 7))
SHUFFLENET = ((24, 56), (116, 28), (232, 14), (464, 7))
DEEP_BLOCKS = ((1, 2), (2, 3), (3, 5), (4, 2))  # the last block of each layer, ResNet-34 and -50
# (network, (channels, side) of each map at 224, paths of the batch norms before them)
NETWORKS = {
    "resnet18": (BASIC, [f"layer{i}.1.bn2" for i in range(1, 5)]),
    "resnet34": (BASIC, [f"layer{i}.{n}.bn2" for i, n in DEEP_BLOCKS]),
    "resnet50": (WIDE, [f"layer{i}.{n}.bn3" for i, n in DEEP_BLOCKS]),
    "mobilenet_v2": (MOBILENET_V2, [f"features.{i}.conv.1.1" for i in (4, 6, 11, 17)]),
    "shufflenet_v2_x1_0": (SHUFFLENET, None),
    # The first convolution, then blocks 3, 5, 11 and 13 of 13, in timm's grouping.
    "mobilenetv1_100": (
        MOBILENET_V1,
        [f"blocks.{i}.{n}.bn2" for i, n in enumerate((1, 1, 5, 1), 1)],
    ),
    "timm/resnet18": (BASIC, [f"layer{i}.1.bn2" for i in range(1, 5)]),
}


def build(arch):
    """A network whose batch norms have random scales, so that nothing is zero by its start."""
    if "timm" in arch or arch == "mobilenetv1_100":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    network = create_backbone(arch)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network


@pytest.mark.parametrize("arch", NETWORKS)
def test_maps_have_the_published_channels_and_sides_and_their_batch_norms(arch):
    shapes, norms = NETWORKS[arch]
    network = build(arch)
    taps = find_taps(network)
    maps = probe(network, taps, 224)
    assert [(m.shape[1], m.shape[2], m.shape[3]) for m in maps] == [(c, s, s) for c, s in shapes]
    assert taps.names == ["layer1", "layer2", "layer3", "layer4"]
    found = taps.norms(network)
    if norms is None:  # read after concatenation and shuffle: no one batch norm made the map
        assert found == [None] * 4
        return
    for norm, path, (channels, _) in zip(found, norms, shapes, strict=True):
        assert norm is network.get_submodule(path)
        assert norm.num_features == channels


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_taps_do_not_change_what_a_network_computes(arch, mode):
    network = build(arch)
    untouched = copy.deepcopy(network)
    taps = find_taps(network, size=64)
    network.train(mode == "train")
    untouched.train(mode == "train")
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(1)
    maps, output = taps(network, images)
    torch.manual_seed(1)  # dropout, where a network has it
    assert torch.equal(output, untouched(images))
    for key, value in untouched.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key
    if arch != "shufflenet_v2_x1_0":  # read after concatenation, half of it after a ReLU
        assert all(m.min() < 0 for m in maps)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "timm/resnet18"])
def test_the_relu_of_a_resnets_map_is_the_output_of_its_layer(arch):
    network = build(arch).eval()
    outputs = []
    for i in range(1, 5):
        layer = network.get_submodule(f"layer{i}")
        layer.register_forward_hook(lambda *args: outputs.append(args[2].detach().clone()))
    taps = find_taps(network, size=64)
    outputs.clear()
    maps, _ = taps(network, torch.randn(2, 3, 64, 64))
    for tapped, output in zip(maps, outputs, strict=True):
        assert torch.equal(tapped.relu(), output)


def test_mobilenet_v2_is_read_before_relu6():
    network = build("mobilenet_v2").eval()
    taps = find_taps(network)
    inputs = []
    for i in (4, 6, 11, 17):
        relu6 = network.get_submodule(f"features.{i}.conv.1.2")
        assert isinstance(relu6, nn.ReLU6)
        relu6.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    maps, _ = taps(network, torch.randn(1, 3, 64, 64))
    assert all(torch.equal(a, b) for a, b in zip(maps, inputs, strict=True))


def test_gradients_flow_through_the_maps():
    network = build("resnet18")
    maps, _ = find_taps(network, size=32)(network, torch.randn(2, 3, 32, 32))
    maps[1].square().sum().backward()
    assert network.layer2[1].bn2.weight.grad.abs().sum() > 0
    assert network.conv1.weight.grad.abs().sum() > 0
    assert network.layer3[0].conv1.weight.grad is None


def test_maps_are_read_in_inference_mode():
    network = build("resnet18").eval()
    taps = find_taps(network, size=32)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        maps, _ = taps(network, images)
    assert all(torch.equal(a, b) for a, b in zip(maps, taps(network, images)[0], strict=True))


def test_small_stems_and_widths_are_tapped_too():
    network = create_backbone("resnet18", width=0.125, stem="small")
    maps = probe(network, find_taps(network, size=32), 32)
    assert [m.shape[1:] for m in maps] == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]


class Own(nn.Module):
    """Two stages: one ends in a ReLU that is a module, one in nothing."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "stage1": nn.Sequential(
                    nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
                ),
                "stage2": nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6)),
                "spare": nn.Conv2d(6, 6, 1),
                "flat": nn.Flatten(),
            }
        )

    def forward(self, x):
        x = self.backbone["stage2"](self.backbone["stage1"](x))
        return self.backbone["flat"](x)


def test_overrides_name_the_modules_of_any_network():
    network = Own().eval()
    taps = find_taps(network, ["layer1=backbone.stage1", "layer2=backbone.stage2"], size=16)
    images = torch.randn(2, 3, 16, 16)
    maps, output = taps(network, images)
    before = network.backbone["stage1"][:2](images)
    assert taps.names == ["layer1", "layer2"]
    assert torch.equal(maps[0], before) and before.min() < 0
    assert torch.equal(maps[1].flatten(1), output)
    assert taps.norms(network) == [network.backbone["stage1"][1], network.backbone["stage2"][1]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["a=backbone.stage3"],
            r"'backbone\.stage3' is no module of Own; nearest: backbone\.stage",
        ),
        (["a=backbone.spare"], r"a=backbone\.spare: the pass does not reach it"),
        (["a=backbone.flat"], r"output has shape \(2, 294\), expected \(N,C,H,W\)"),
        (["backbone.stage1"], r"got 'backbone\.stage1', expected NAME=module\.path"),
        (["a.b=backbone.stage1"], r"got the name 'a\.b', expected one without a dot"),
        (["a=backbone.stage1", "a=backbone.stage2"], r"got the name 'a' twice"),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        find_taps(Own(), overrides, size=16)


def test_a_network_without_a_rule_is_answered_with_its_modules():
    with pytest.raises(ValueError, match=r"Own: no rule finds its taps; name them with --taps"):
        find_taps(Own())


def test_a_network_whose_stages_shrink_by_less_than_four_is_left_to_the_next_rule():
    network = Own()
    network.feature_info = [{"module": "backbone", "reduction": 2}]
    with pytest.raises(ValueError, match=r"Own: no rule finds its taps"):
        find_taps(network)


def test_a_module_that_a_pass_does_not_reach_is_named():
    with pytest.raises(RuntimeError, match=r"tap a: the pass did not reach module backbone\.spare"):
        Taps([Tap("a", "backbone.spare", "output")])(Own(), torch.randn(1, 3, 16, 16))


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x).relu_()


def test_a_map_that_is_overwritten_in_place_is_not_returned():
    taps = Taps([Tap("a", "norm", "output", "norm")])
    with pytest.raises(RuntimeError, match="the map of norm was overwritten in place"):
        taps(Overwriting(), torch.randn(2, 3, 4, 4))


def hooks(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


class Failing(Own):
    fail = False

    def forward(self, x):
        out = super().forward(x)
        if self.fail:
            raise ArithmeticError
        return out


def test_hooks_are_gone_after_a_pass_and_after_an_exception():
    network = Failing()
    taps = find_taps(network, ["a=backbone.stage1", "b=backbone.stage2"], size=16)
    assert hooks(network) == 0
    images = torch.randn(2, 3, 16, 16)
    taps(network, images)
    assert hooks(network) == 0
    network.fail = True
    with pytest.raises(ArithmeticError):
        taps(network, images)
    assert hooks(network) == 0
    with taps.recording(network):
        assert hooks(network) == 2


def test_the_same_taps_read_a_copy_of_the_network():
    network = build("resnet18").eval()
    taps = find_taps(network, size=32)
    replica = copy.deepcopy(network)
    nn.init.zeros_(network.layer4[1].bn2.weight)  # the copy must be read, not the original
    images = torch.randn(2, 3, 32, 32)
    maps, output = taps(replica, images)
    torch.testing.assert_close(maps[3].relu().mean((2, 3)), output)
    assert taps.norms(replica)[3] is replica.layer4[1].bn2


def test_probing_changes_no_state():
    network = build("resnet18")
    network.layer3.eval()
    before = copy.deepcopy(network.state_dict())
    find_taps(network, size=32)
    assert network.training and not network.layer3.training and network.layer4.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_a_tapped_network_offers_the_three_functions():
    network = TappedNetwork(build("resnet18"), size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    before, output = network.extract_feature(images, preReLU=True)
    after, _ = network.extract_feature(images)
    assert torch.equal(output, network(images))
    assert all(torch.equal(b.relu(), a) for b, a in zip(before, after, strict=True))
    assert network.get_channel_num() == [64, 128, 256, 512]
    assert network.get_bn_before_relu()[0] is network.network.layer1[1].bn2


def test_a_network_that_offers_the_three_functions_is_read_by_them():
    network = TappedNetwork(build("resnet18"), size=64).eval()
    reader = find_reader(network)
    assert isinstance(reader, ContractReader)
    images = torch.randn(2, 3, 64, 64)
    maps, output = reader(network, images)
    expected, _ = network.extract_feature(images, preReLU=True)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert torch.equal(output, network(images))
    assert reader.names == ["stage0", "stage1", "stage2", "stage3"]
    assert reader.norms(network) == network.get_bn_before_relu()
    assert isinstance(find_reader(network.network, size=64), Taps)
