"""Weights are found by which names fit the network; what was chosen, and what not, is said."""

import re

import pytest
import torch
from test_checkpoints import FC, MLP, other, prefixed, random_state
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mgd_ssl.models import create_backbone, load_backbone, load_classifier
from mgd_ssl.models.backbones import BackboneSpec, backbone_shapes
from mgd_ssl.models.guessing import guess_spec

WIDTH = 0.125
HEADS = {"projector.0.weight": torch.randn(8, 64), "predictor.0.weight": torch.randn(8, 8)}


@pytest.fixture(scope="module")
def state():
    return random_state(width=WIDTH, stem="small")


def numbered(state):
    """As in Sequential(*list(resnet.children())[:-1]), which lightly's users write."""
    names = [name for name, _ in create_backbone("resnet18", width=WIDTH).named_children()]
    return {".".join([str(names.index(k.split(".")[0])), *k.split(".")[1:]]): k for k in state}


def lightly(state):
    return {f"backbone.{new}": state[old] for new, old in numbered(state).items()}


# name -> (file of a state, entry and prefix that are reported)
WRAPPED = {
    "torch.compile": (lambda s: prefixed("_orig_mod.", s), "the file itself, prefix _orig_mod."),
    "compiled parts": (
        lambda s: {k.replace("layer1.0.", "layer1.0._orig_mod."): v for k, v in s.items()},
        "the file itself",
    ),
    "DDP twice": (
        lambda s: {"state_dict": prefixed("module.module.", s)},
        "state_dict, prefix module.module.",
    ),
    "DDP, compiled": (
        lambda s: {"state_dict": prefixed("module._orig_mod.", s)},
        "state_dict, prefix module._orig_mod.",
    ),
    "FSDP": (
        lambda s: {"model": prefixed("_fsdp_wrapped_module.", s)},
        "model, prefix _fsdp_wrapped_module.",
    ),
    "SimSiam": (
        lambda s: {"state_dict": prefixed("module.", prefixed("encoder.", s | MLP) | HEADS)},
        "state_dict, prefix module.encoder.",
    ),
    "Barlow Twins": (
        lambda s: {"model": prefixed("module.", prefixed("backbone.", s) | HEADS)},
        "model, prefix module.backbone.",
    ),
    "MMSelfSup": (
        lambda s: {
            "state_dict": prefixed("encoder_q.0.", s)
            | prefixed("encoder_q.1.", MLP)
            | prefixed("encoder_k.0.", other(s))
        },
        "state_dict, prefix encoder_q.0.",
    ),
    "Lightning": (
        lambda s: {"state_dict": prefixed("model.", s | FC)},
        "state_dict, prefix model.",
    ),
    "Lightning, compiled": (
        lambda s: {"state_dict": prefixed("net._orig_mod.", s)},
        "state_dict, prefix net._orig_mod.",
    ),
    "BYOL": (
        lambda s: {
            "online_network": prefixed("encoder.", s),
            "target_network": prefixed("encoder.", other(s)),
        },
        "online_network, prefix encoder.",
    ),
    "BYOL in one": (
        lambda s: prefixed("target_encoder.net.", other(s)) | prefixed("online_encoder.net.", s),
        "the file itself, prefix online_encoder.net.",
    ),
    "SupCon": (
        lambda s: {"model": prefixed("encoder.module.", s) | prefixed("head.", MLP)},
        "model, prefix encoder.module.",
    ),
    "lightly": (lambda s: {"state_dict": lightly(s)}, "state_dict, prefix backbone."),
    "solo-learn": (
        lambda s: {
            "state_dict": prefixed("momentum_backbone.", other(s)) | prefixed("backbone.", s)
        },
        "state_dict, prefix backbone.",
    ),
    "an entry network": (lambda s: {"network": s}, "network"),
    "an entry backbone": (lambda s: {"backbone": s, "epoch": 3}, "backbone"),
    "an entry net": (lambda s: {"net": prefixed("module.", s)}, "net, prefix module."),
    "model_state_dict": (lambda s: {"model_state_dict": s | FC}, "model_state_dict"),
    "entries in entries": (
        lambda s: {"checkpoint": {"model": {"state_dict": s}}},
        "checkpoint/model/state_dict",
    ),
    "EMA beside raw, timm": (
        lambda s: {"state_dict": other(s), "state_dict_ema": s},
        "state_dict_ema",
    ),
    "EMA beside raw, torchvision": (
        lambda s: {
            "model": other(s),
            "model_ema": prefixed("module.", s) | {"n_averaged": torch.tensor(3)},
        },
        "model_ema, prefix module.",
    ),
    "EMA alone": (lambda s: {"model_ema": s}, "model_ema"),
    "a teacher beside its student": (
        lambda s: {"state_dict": prefixed("student.", other(s)) | prefixed("teacher.", s)},
        "state_dict, prefix teacher.",
    ),
}


@pytest.mark.parametrize("arch", [None, "resnet18"])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_network_is_found_in_whatever_wraps_it(name, arch, state, tmp_path):
    write, place = WRAPPED[name]
    torch.save(write(state), tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt", arch=arch)
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert (report.place, report.missing, report.unexpected) == (place, [], [])
    assert f"({place})" in str(report)


def test_what_was_not_read_is_said(state, tmp_path):
    torch.save({"state_dict": other(state), "state_dict_ema": state, "epoch": 1}, tmp_path / "a.pt")
    _, report = load_backbone(tmp_path / "a.pt")
    assert report.others == ["state_dict"] and str(report).endswith("; not read: state_dict")
    assert report.layout == "averaged"


def test_of_several_networks_the_one_that_is_named_is_read(tmp_path):
    wide, thin = random_state("resnet34", width=WIDTH), random_state("resnet18", width=WIDTH)
    both = prefixed("teacher.", wide) | prefixed("student.", thin)
    torch.save({"state_dict": both}, tmp_path / "kd.ckpt")
    assert load_backbone(tmp_path / "kd.ckpt")[1].spec.arch == "resnet34"
    network, report = load_backbone(tmp_path / "kd.ckpt", arch="resnet18")
    assert report.place == "state_dict, prefix student."
    assert torch.equal(network.conv1.weight, thin["conv1.weight"])


def test_an_averaged_model_of_torch_is_read(tmp_path):
    network = create_backbone("resnet18", width=WIDTH)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    averaged.update_parameters(network)
    torch.save(averaged.state_dict(), tmp_path / "a.pt")
    loaded, report = load_backbone(tmp_path / "a.pt")
    assert report.place == "the file itself, prefix module."
    assert torch.equal(loaded.conv1.weight, averaged.module.conv1.weight)


def test_a_compiled_network_in_a_wrapper_of_ones_own_is_read(state, tmp_path):
    network = create_backbone("resnet18", width=WIDTH, stem="small")
    network.load_state_dict(state)

    class Lit(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.compile(nn.DataParallel(network))
            self.projection = nn.Linear(3, 3)

    torch.save({"state_dict": Lit().state_dict()}, tmp_path / "a.ckpt")
    loaded, report = load_backbone(tmp_path / "a.ckpt")
    assert report.place == "state_dict, prefix net._orig_mod.module."
    assert torch.equal(loaded.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize("prefix", ["module.encoder.", "online_encoder.", "encoder_q.0."])
def test_a_projection_of_one_layer_is_no_classifier(prefix, state, tmp_path):
    torch.save({"state_dict": prefixed(prefix, state | FC)}, tmp_path / "a.pt")
    assert load_classifier(tmp_path / "a.pt")[1].classes is None
    torch.save({"state_dict": prefixed("model.", state | FC)}, tmp_path / "a.pt")
    assert load_classifier(tmp_path / "a.pt")[1].classes == 10


def given_by(message, prefix="--"):
    """The options that a message names."""
    found = dict(re.findall(rf"{prefix}(arch|width|stem) ([\w./]+)", message))
    return found | ({"width": float(found["width"])} if "width" in found else {})


@pytest.mark.parametrize(
    ("arch", "options", "wrong"),
    [
        ("resnet50", {"width": WIDTH}, {"arch": "resnet18"}),
        ("resnet18", {"width": WIDTH}, {"width": 0.5}),
        ("resnet18", {"width": WIDTH, "stem": "small"}, {"stem": "imagenet"}),
        ("resnet34", {"width": 0.3}, {"arch": "resnet18", "width": 1.0, "stem": "small"}),
        ("mobilenet_v2", {"width": 0.5}, {"arch": "resnet18"}),
        ("mobilenet_v2", {}, {"width": 0.5}),
        ("shufflenet_v2_x1_0", {}, {"arch": "resnet50"}),
    ],
)
def test_the_advice_of_a_refusal_loads_the_file(arch, options, wrong, tmp_path):
    torch.save(prefixed("module.net.", random_state(arch, **options)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="Name the architecture that the file holds") as error:
        load_backbone(tmp_path / "a.pt", **wrong)
    advised = given_by(str(error.value))
    assert advised == given_by(str(error.value), "--teacher-") and "arch" in advised
    _, report = load_backbone(tmp_path / "a.pt", **(wrong | advised))
    assert report.spec.arch == arch and report.missing == []


def test_names_that_do_not_fit_are_counted_at_the_nearest_place(state, tmp_path):
    part = {k: v for k, v in state.items() if not k.startswith("layer4.1.bn2.")}
    content = {"junk": {"bn1.weight": FC["fc.bias"]}, "net": prefixed("a.b.", part)}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"net, prefix a\.b\.") as error:
        load_backbone(tmp_path / "a.pt", arch="resnet18")
    assert "115 matched, 4 missing" in str(error.value)
    assert "save that network's state_dict() alone, and whole" in str(error.value)


def test_a_files_own_name_of_its_network_does_not_stand_in_the_way(state, tmp_path):
    """Other projects call their networks as they like."""
    torch.save({"arch": ["ResNet-18", "(ours)"][0], "state_dict": state}, tmp_path / "a.pt")
    assert load_backbone(tmp_path / "a.pt")[1].spec.arch == "resnet18"
    torch.save({"arch": "our_net", "state_dict": {"a.weight": FC["fc.weight"]}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"cannot be told from its keys.*calls it 'our_net'"):
        load_backbone(tmp_path / "a.pt")


@pytest.mark.parametrize("width", [0.01, 0.02, 0.0625, 0.1, 0.245, 0.3, 0.495, 1.005, 1.3])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_every_width_is_read_off_the_shapes(arch, width, tmp_path):
    shapes = backbone_shapes(BackboneSpec(arch, width))
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert backbone_shapes(guess_spec(tmp_path, state, None)) == shapes


def test_a_very_thin_network_is_read_back(tmp_path):
    state = random_state(width=0.0625, stem="small")
    torch.save(state, tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt")
    assert report.spec.width == 0.0625
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
