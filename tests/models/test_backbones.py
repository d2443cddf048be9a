"""Networks by name are the untouched networks of torchvision and timm, without their heads."""

import pytest
import torch
import torchvision
from torch import nn

from mgd_ssl.models import backbone_state, create_backbone, set_head, without_head
from mgd_ssl.models.backbones import BackboneSpec

FEATURES = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "mobilenet_v2": 1280,
    "shufflenet_v2_x1_0": 1024,
}


@pytest.mark.parametrize("arch", FEATURES)
def test_a_torchvision_name_gives_torchvisions_keys_and_output(arch):
    ours = create_backbone(arch).eval()
    theirs = torchvision.models.get_model(arch, weights=None).eval()
    # `fc` or `classifier`, whichever torchvision has, becomes an identity.
    setattr(theirs, "classifier" if arch == "mobilenet_v2" else "fc", nn.Identity())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = ours(images)
        assert torch.equal(features, theirs(images))
    assert features.shape == (2, FEATURES[arch])
    assert ours.num_features == FEATURES[arch]


@pytest.mark.parametrize("arch", ["resnet101", "resnet152"])
def test_deep_resnets_have_torchvisions_keys_and_shapes(arch):
    with torch.device("meta"):
        ours = create_backbone(arch).state_dict()
        theirs = torchvision.models.get_model(arch, weights=None).state_dict()
    kept = {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in ours.items()} == kept


def test_width_multiplies_every_channel_count_and_keeps_the_keys():
    thin = create_backbone("resnet18", width=0.25)
    full = create_backbone("resnet18")
    assert list(thin.state_dict()) == list(full.state_dict())
    for key, value in thin.state_dict().items():
        if value.ndim:
            assert value.shape[0] == full.state_dict()[key].shape[0] // 4, key
    assert thin.num_features == 128
    assert thin(torch.randn(2, 3, 32, 32)).shape == (2, 128)


def test_width_of_a_bottleneck_network():
    thin = create_backbone("resnet50", width=0.125).eval()
    assert thin.num_features == 256
    assert thin(torch.randn(1, 3, 32, 32)).shape == (1, 256)


def test_width_of_mobilenet_v2_is_torchvisions():
    ours = create_backbone("mobilenet_v2", width=0.5).state_dict()
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=0.5).state_dict()
    kept = {k: v.shape for k, v in theirs.items() if not k.startswith("classifier.")}
    assert {k: v.shape for k, v in ours.items()} == kept


@pytest.mark.parametrize("arch", ["shufflenet_v2_x1_0", "timm/resnet18"])
def test_width_is_refused_where_no_rule_makes_a_network_thinner(arch):
    with pytest.raises(ValueError, match=r"width: got 0\.5 for .*, expected 1\.0; only resnet18"):
        create_backbone(arch, width=0.5)


@pytest.mark.parametrize(("stride", "sides"), [(1, (32, 16, 8, 4)), (2, (16, 8, 4, 2))])
def test_a_small_stem_keeps_small_images_large(stride, sides):
    network = create_backbone("resnet18", width=0.125, stem="small", stem_stride=stride).eval()
    assert isinstance(network.maxpool, nn.Identity)
    assert network.conv1.kernel_size == (3, 3)
    x = network.relu(network.bn1(network.conv1(torch.randn(1, 3, 32, 32))))
    for name, side in zip(("layer1", "layer2", "layer3", "layer4"), sides, strict=True):
        x = network.get_submodule(name)(x)
        assert x.shape[2:] == (side, side)


def test_a_small_stem_of_the_other_networks():
    images = torch.randn(1, 3, 32, 32)
    mobilenet = create_backbone("mobilenet_v2", stem="small").eval()
    assert mobilenet.features(images).shape[2:] == (2, 2)
    shufflenet = create_backbone("shufflenet_v2_x1_0", stem="small").eval()
    assert shufflenet.stage2(shufflenet.conv1(images)).shape[2:] == (16, 16)


def test_a_small_stem_is_refused_where_no_rule_makes_it():
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="no rule for a small stem on mobilenetv1_100"):
        create_backbone("mobilenetv1_100", stem="small")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'resnet81'.*nearest: (?!.*(resnet18).*\1).*resnet18"):
        create_backbone("resnet81")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.0}, "width: got 0.0, expected a factor above 0"),
        ({"stem": "tiny"}, "stem: got 'tiny', expected 'imagenet' or 'small'"),
        ({"stem_stride": 3}, "stem_stride: got 3, expected 1 or 2"),
    ],
)
def test_a_spec_names_the_value_that_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        BackboneSpec(**options)


OWN_NETWORKS = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.trunk(x))

def headless():
    return nn.Conv2d(3, 6, 3)

def text():
    return "no network"
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_backbones.py").write_text(OWN_NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_backbones"


def test_a_network_of_your_own_is_named_by_module_and_function(own_module):
    network = create_backbone(f"{own_module}:Own")
    assert network.num_features == 6
    assert network.head_name == "head"
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 6)
    assert network.spec.arch == f"{own_module}:Own"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", "expected MODULE:FUNCTION that returns a network"),
        ("text", "returned str, expected nn.Module"),
        ("headless", "no classifier named fc, classifier, head; set its attribute head_name"),
    ],
)
def test_a_function_that_gives_no_usable_network_is_refused(own_module, function, message):
    with pytest.raises(ValueError, match=message):
        create_backbone(f"{own_module}:{function}")


def test_a_module_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no_such_module_here"):
        create_backbone("no_such_module_here:f")


def test_timm_networks_come_without_a_head():
    timm = pytest.importorskip("timm")
    ours = create_backbone("mobilenetv1_100").eval()
    theirs = timm.create_model("mobilenetv1_100", pretrained=False, num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert ours.num_features == 1024


def test_a_prefix_takes_timms_network_over_torchvisions():
    timm = pytest.importorskip("timm")
    assert isinstance(create_backbone("timm/resnet18"), timm.models.resnet.ResNet)
    assert isinstance(create_backbone("resnet18"), torchvision.models.ResNet)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "mobilenetv1_100"])
def test_a_head_is_put_on_taken_off_and_left_out_of_the_state(arch):
    if arch == "mobilenetv1_100":
        pytest.importorskip("timm")
    network = create_backbone(arch).eval()
    plain = dict(network.state_dict())
    head = nn.Linear(network.num_features, 7)
    set_head(network, head)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        with without_head(network):
            features = network(images)
        assert features.shape == (1, network.num_features)
        assert torch.equal(network(images), head(features))
    assert set(network.state_dict()) - set(plain) == {
        f"{network.head_name}.weight",
        f"{network.head_name}.bias",
    }
    assert set(backbone_state(network)) == set(plain)


def test_the_head_is_back_after_an_exception():
    network = create_backbone("resnet18", width=0.125)
    head = nn.Linear(64, 3)
    set_head(network, head)
    with pytest.raises(KeyError), without_head(network):
        raise KeyError
    assert network.fc is head


def test_a_function_that_fails_is_told_with_its_error():
    with pytest.raises(ValueError, match=r"'os:system' failed: TypeError: .*takes no arguments"):
        create_backbone("os:system")
