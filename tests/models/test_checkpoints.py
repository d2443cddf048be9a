"""Every layout gives the weights that were written; anything else is refused with a reason."""

import argparse
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mgd_ssl.models import create_backbone, load_backbone, read_checkpoint, split_batch_norms
from mgd_ssl.models.resnets import RESNETS
from mgd_ssl.models.timm_networks import usual_normalization

WIDTH = 0.125
FEATURES = 64
ENTRIES = 120  # of a ResNet-18 without its head: 20 convolutions, 20 batch norms of 5 entries
FC = {"fc.weight": torch.randn(10, FEATURES), "fc.bias": torch.randn(10)}
MLP = {
    "fc.0.weight": torch.randn(FEATURES, FEATURES),
    "fc.0.bias": torch.randn(FEATURES),
    "fc.2.weight": torch.randn(16, FEATURES),
    "fc.2.bias": torch.randn(16),
}
QUEUE = {"module.queue": torch.randn(16, 32), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}


def random_state(arch="resnet18", **options):
    """A backbone's state with every entry random, counters and running statistics too."""
    network = create_backbone(arch, **options)
    return {
        k: torch.randint_like(v, 1, 99) if k.endswith("tracked") else torch.rand_like(v) + 0.5
        for k, v in network.state_dict().items()
    }


@pytest.fixture
def state():
    return random_state(width=WIDTH)


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def other(state):
    """The weights of the branch that must not be read."""
    return {key: torch.zeros_like(value) for key, value in state.items()}


def moco(state, head):
    return {
        "epoch": 200,
        "arch": "resnet18",
        "state_dict": {
            **prefixed("module.encoder_k.", other(state | head)),
            **prefixed("module.encoder_q.", state | head),
            **QUEUE,
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]},
    }


def moco_v3(state):
    head = {"fc.0.weight": torch.randn(32, FEATURES), "fc.1.weight": torch.randn(32)}
    return {
        "arch": "resnet18",
        "state_dict": {
            **prefixed("module.momentum_encoder.", other(state | head)),
            **prefixed("module.base_encoder.", state | head),
            "module.predictor.0.weight": torch.randn(8, 8),
        },
    }


def dino(state, prefix="module.backbone."):
    head = prefix.replace("backbone", "head")
    return {
        "student": prefixed(prefix, other(state)),
        "teacher": {**prefixed(prefix, state), head + "mlp.0.weight": torch.randn(8, 8)},
        "args": argparse.Namespace(arch="resnet18", lr=0.1),
    }


SWAV_HEAD = {
    "projection_head.0.weight": torch.randn(8, FEATURES),
    "prototypes.weight": torch.randn(4, 8),
}
SOLO_HEAD = {"projector.0.weight": torch.randn(8, FEATURES)}
# name -> (checkpoint of a state, layout reported, entries of a head)
WRITERS = {
    "moco v1": (lambda s: moco(s, FC), "moco", 2),
    "moco v2": (lambda s: moco(s, MLP), "moco", 4),
    "moco of one process": (lambda s: {"state_dict": prefixed("encoder_q.", s | MLP)}, "moco", 4),
    "moco v3": (moco_v3, "moco v3", 2),
    "dino": (dino, "dino", 0),
    "dino of one process": (lambda s: dino(s, "backbone."), "dino", 0),
    "swav": (lambda s: prefixed("module.", s | SWAV_HEAD), "swav", 2),
    "swav in training": (lambda s: {"state_dict": prefixed("module.", s | SWAV_HEAD)}, "swav", 2),
    "solo-learn": (
        lambda s: {"state_dict": prefixed("backbone.", s) | SOLO_HEAD | prefixed("momentum_", s)},
        "backbone",
        0,
    ),
    "classification": (lambda s: {"state_dict": s | FC, "best_acc1": 70.0}, "state_dict", 2),
    "model": (lambda s: {"model": s | FC}, "state_dict", 2),
    "torchvision": (lambda s: s | FC, "plain", 2),
    "headless": (lambda s: s, "plain", 0),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_layout_gives_its_weights_bit_for_bit(name, state, tmp_path):
    write, layout, head = WRITERS[name]
    path = tmp_path / "teacher.pth.tar"
    torch.save(write(state), path)
    network, report = load_backbone(path)
    assert not any(module.training for module in network.modules())
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert (report.layout, report.path) == (layout, path)
    assert (report.matched, report.missing, report.unexpected) == (ENTRIES, [], [])
    assert len(report.head) == head
    assert report.spec == create_backbone("resnet18", width=WIDTH).spec
    assert f"{ENTRIES} matched, 0 missing, 0 unexpected, {head} of a head left out" in str(report)


def test_loading_draws_no_random_numbers(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "teacher.pt")
    before = torch.get_rng_state()
    load_backbone(tmp_path / "teacher.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_this_projects_own_checkpoints_name_their_network(tmp_path):
    spec = {"arch": "resnet18", "width": WIDTH, "stem": "small", "stem_stride": 2}
    state = random_state(**spec)
    own = moco(state, MLP) | {
        "backbone": spec,
        "normalisation": {"mean": [0.3, 0.3, 0.3], "std": [0.4, 0.4, 0.4]},
        "size": 32,
    }
    torch.save(own, tmp_path / "last.pt")
    network, report = load_backbone(tmp_path / "last.pt")
    assert network.conv1.stride == (2, 2)
    assert report.spec.to_dict() == spec
    assert (report.mean, report.std, report.size) == ((0.3,) * 3, (0.4,) * 3, 32)


def test_safetensors_with_metadata_name_their_network(state, tmp_path):
    path = tmp_path / "student.safetensors"
    spec = {"arch": "resnet18", "width": WIDTH, "stem": "imagenet", "stem_stride": 1}
    norm = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    metadata = {"backbone": json.dumps(spec), "normalisation": json.dumps(norm), "size": "32"}
    save_file(state, path, metadata)
    network, report = load_backbone(path)
    assert all(torch.equal(network.state_dict()[key], state[key]) for key in state)
    assert report.spec.to_dict() == spec
    assert (report.mean, report.std, report.size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 32)


def test_safetensors_without_metadata_are_read_by_their_shapes(state, tmp_path):
    save_file(state | FC, tmp_path / "plain.safetensors")
    network, report = load_backbone(tmp_path / "plain.safetensors")
    assert torch.equal(network.conv1.weight, state["conv1.weight"])
    assert report.spec.width == WIDTH and report.size is None
    assert report.mean == (0.485, 0.456, 0.406) and report.std == (0.229, 0.224, 0.225)


def test_a_network_of_timm_is_named_by_the_caller_or_the_file_or_told_by_its_keys(tmp_path):
    pytest.importorskip("timm")
    state = random_state("mobilenetv1_100")
    head = {"classifier.weight": torch.randn(10, 1024), "classifier.bias": torch.randn(10)}
    torch.save(state | head, tmp_path / "plain.pt")
    torch.save({"arch": "mobilenetv1_100", "state_dict": state}, tmp_path / "named.pt")
    named = load_backbone(tmp_path / "named.pt")
    told, by_caller = (
        load_backbone(tmp_path / "plain.pt", arch=a) for a in (None, "mobilenetv1_100")
    )
    for network, report in (told, by_caller, named):
        assert all(torch.equal(network.state_dict()[key], state[key]) for key in state)
        assert report.matched == len(state)
    assert told[1].spec.arch == "timm/mobilenetv1_100"
    state["conv_stem.bias"] = torch.randn(32)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"cannot be told from its keys.*name it: --arch"):
        load_backbone(tmp_path / "other.pt")


def test_bare_weights_are_normalized_as_all_are_that_timm_publishes(tmp_path):
    timm = pytest.importorskip("timm")
    lite = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    torch.save(random_state("tf_efficientnet_lite0"), tmp_path / "lite.pt")
    _, report = load_backbone(tmp_path / "lite.pt", arch="tf_efficientnet_lite0")
    assert (report.mean, report.std) == (lite.mean, lite.std) == ((0.5,) * 3, (0.5,) * 3)
    assert "mean 0.5 0.5 0.5 and deviation 0.5 0.5 0.5, as for all weights" in str(report)
    said = {"normalisation": {"mean": [0.3] * 3, "std": [0.4] * 3}}
    content = {"state_dict": random_state("tf_efficientnet_lite0")} | said
    torch.save(content, tmp_path / "says.pt")
    _, report = load_backbone(tmp_path / "says.pt", arch="tf_efficientnet_lite0")
    assert report.mean == (0.3,) * 3 and "as for all weights" not in str(report)
    described = content | {"backbone": {"arch": "tf_efficientnet_lite0"}}
    torch.save({k: described[k] for k in ("state_dict", "backbone")}, tmp_path / "own.pt")
    assert load_backbone(tmp_path / "own.pt")[1].mean == (0.485, 0.456, 0.406)


def test_weights_of_which_timm_publishes_several_kinds_get_imagenets(tmp_path):
    timm = pytest.importorskip("timm")
    arch = "vit_small_patch16_224"
    kinds = {timm.get_pretrained_cfg(name).mean for name in timm.list_pretrained(f"{arch}.*")}
    assert len(kinds) > 1
    assert usual_normalization(arch) is None and usual_normalization("no_such_network") is None
    assert usual_normalization("resnet50_clip")[0] == timm.get_pretrained_cfg("resnet50_clip").mean


@pytest.mark.parametrize("arch", ["timm/resnet18", "mobilenet_v2", "shufflenet_v2_x1_0"])
def test_other_networks_are_told_by_their_keys(arch, tmp_path):
    if arch.startswith("timm/"):
        pytest.importorskip("timm")
    state = random_state(arch)
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt")
    assert report.spec.arch == arch.removeprefix("timm/")
    assert all(torch.equal(network.state_dict()[key], state[key]) for key in state)


@pytest.mark.parametrize("arch", RESNETS)
def test_a_resnet_is_told_by_its_blocks_width_and_stem(arch, tmp_path):
    network = create_backbone(arch, width=WIDTH, stem="small")
    torch.save(network.state_dict(), tmp_path / "a.pt")
    _, report = load_backbone(tmp_path / "a.pt")
    assert (report.spec.arch, report.spec.width, report.spec.stem) == (arch, WIDTH, "small")


def test_half_precision_is_cast(state, tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"state_dict": half}, tmp_path / "a.pt")
    network, _ = load_backbone(tmp_path / "a.pt")
    for key, value in network.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, half[key].to(value.dtype))


def test_files_that_count_no_batches_are_read(state, tmp_path):
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pt")
    network, report = load_backbone(tmp_path / "old.pt")
    assert (report.matched, report.missing) == (ENTRIES - 20, [])
    assert network.bn1.num_batches_tracked == 0


def test_split_batch_norms_write_what_plain_ones_read(tmp_path):
    network = create_backbone("resnet18", width=WIDTH)
    split_batch_norms(network, 4)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    loaded, _ = load_backbone(tmp_path / "a.pt")
    assert type(loaded.bn1) is nn.BatchNorm2d


def test_a_head_of_any_size_is_left_out(state, tmp_path):
    heads = FC | {"projector.weight": torch.randn(3, 3), "head.last.weight": torch.randn(2)}
    torch.save(state | heads, tmp_path / "a.pt")
    _, report = load_backbone(tmp_path / "a.pt")
    assert sorted(report.head) == sorted(heads)
    assert report.unexpected == []


def test_reading_gives_the_whole_content(state, tmp_path):
    torch.save({"state_dict": state, "epoch": 7}, tmp_path / "a.pt")
    content, metadata = read_checkpoint(tmp_path / "a.pt")
    assert content["epoch"] == 7 and metadata == {}
