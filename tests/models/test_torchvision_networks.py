"""Every classifier of torchvision is a backbone by its name, with and without published weights."""

import re
import warnings
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models import (
    create_backbone,
    create_classifier,
    find_reader,
    load_backbone,
    load_classifier,
    probe,
    without_head,
)
from mgd_ssl.models.backbones import without_memory
from mgd_ssl.models.specs import BackboneSpec
from mgd_ssl.models.torchvision_networks import CLASSIFIERS

# the smallest of each kind, what it gives without its last layer, and a side that it takes
KINDS = {
    "alexnet": (4096, 64),
    "convnext_tiny": (768, 64),
    "densenet121": (1024, 64),
    "efficientnet_b0": (1280, 64),
    "googlenet": (1024, 64),
    "maxvit_t": (512, 224),
    "mnasnet0_5": (1280, 64),
    "mobilenet_v3_small": (1024, 64),
    "regnet_y_400mf": (440, 64),
    "resnext50_32x4d": (2048, 64),
    "shufflenet_v2_x0_5": (1024, 64),
    "squeezenet1_1": (512, 64),
    "swin_t": (768, 64),
    "swin_v2_t": (768, 64),
    "vgg11": (4096, 64),
    "vit_b_16": (768, 224),
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, of initial values that it will change
        yield


def images(side):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arch", CLASSIFIERS)
def test_every_name_gives_a_backbone(arch):
    network = without_memory(BackboneSpec(arch))
    assert isinstance(network.num_features, int) and network.num_features >= 400
    assert isinstance(network.get_submodule(network.head_name), nn.Identity)


@pytest.mark.parametrize("arch", KINDS)
@torch.no_grad()
def test_a_backbone_gives_what_the_last_layer_reads(arch):
    features, side = KINDS[arch]
    torch.manual_seed(0)
    library = torchvision.models.get_model(arch, **without_auxiliary(arch)).eval()
    network = create_backbone(arch).eval()
    assert network.num_features == features
    missing, extra = network.load_state_dict(library.state_dict(), strict=False)
    assert missing == [] and all(key.startswith(f"{network.head_name}.") for key in extra)
    seen = []
    last = [m for m in library.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    library(images(side))
    found = network(images(side))
    expected = seen[0].relu().mean((2, 3)) if arch.startswith("squeezenet") else seen[0]
    assert found.shape == (2, features)
    torch.testing.assert_close(found, expected)


def without_auxiliary(arch):
    return {"aux_logits": False} if arch == "googlenet" else {}


@pytest.mark.parametrize("arch", [name for name in KINDS if name not in ("maxvit_t", "vit_b_16")])
def test_a_classifier_has_the_outputs_that_are_asked_for(arch):
    network = create_classifier(5, arch).eval()
    with torch.no_grad():
        logits = network(images(KINDS[arch][1]))
        assert logits.shape == (2, 5)
        with without_head(network):
            assert network(images(KINDS[arch][1])).shape == (2, KINDS[arch][0])


@pytest.mark.parametrize(
    ("arch", "size", "shapes"),
    [
        ("inception_v3", 224, [(192, 52), (288, 25), (768, 12), (2048, 5)]),
        ("alexnet", 224, [(64, 55), (192, 27), (256, 13), (256, 6)]),
        ("squeezenet1_1", 224, [(128, 55), (256, 27), (512, 13)]),
        ("vgg11", 64, [(256, 16), (512, 8), (512, 4), (512, 2)]),
    ],
)
def test_stages_are_found_of_networks_that_pad_less_than_they_cut(arch, size, shapes):
    network = create_classifier(5, arch)
    maps = probe(network, find_reader(network, (), size), size)
    assert [(m.shape[1], m.shape[2]) for m in maps] == shapes


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's folder of downloads, on a machine without a network."""

    def unreachable(url, *_, **__):
        raise URLError(f"no route to {url}")

    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    return folder


def put(cache, arch, change=lambda state: state, **options):
    """Random weights, under the file name that the library downloads to, and their network."""
    torch.manual_seed(0)
    weights = next(iter(torchvision.models.get_model_weights(arch)))
    network = torchvision.models.get_model(arch, **options).eval()
    torch.save(change(network.state_dict()), cache / weights.url.rpartition("/")[2])
    return network, weights


@pytest.mark.parametrize(
    "arch", ["mobilenet_v3_small", "swin_t", "regnet_y_400mf", "convnext_tiny", "mnasnet0_5"]
)
def test_published_weights_are_loaded_by_name(arch, cache):
    library, weights = put(cache, arch)
    network, report = load_classifier(arch)
    with torch.no_grad():
        assert torch.equal(network(images(64)), library(images(64)))
    assert (report.classes, report.size) == (1000, weights.transforms().crop_size[0])
    assert (report.mean, report.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert load_backbone(arch)[1].features == KINDS[arch][0]
    assert report.provenance.to_dict()["source"] == arch


def test_published_weights_of_older_names_are_loaded(cache):
    """DenseNet's files have dots where its modules have none."""

    def older(state):
        kept = {key: v for key, v in state.items() if "num_batches" not in key}
        return {re.sub(r"(norm|relu|conv)([12])", r"\1.\2", key): v for key, v in kept.items()}

    library, _ = put(cache, "densenet121", older)
    network, report = load_classifier("densenet121")
    with torch.no_grad():
        assert torch.equal(network(images(64)), library(images(64)))
    assert report.unexpected == []


def test_maps_of_a_densenet_are_read_and_it_computes_what_torchvisions_does(cache):
    library, _ = put(cache, "densenet121")
    network, _ = load_classifier("densenet121")
    x = images(64)
    reader = find_reader(network, (), 64)
    with torch.no_grad():
        maps, output = reader(network, x)
        assert torch.equal(output, library(x))
        assert torch.equal(network.classifier(maps[3].relu().mean((2, 3))), output)
    assert [m.shape[1:] for m in maps] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (1024, 2, 2)]
    assert maps[3].min() < 0 and reader.norms(network)[3] is network.features.norm5
    reader(network.train(), x)[0][3].sum().backward()
    assert network.features.conv0.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_what_an_inception_changes_of_its_images_is_its_normalization(arch, cache):
    """torchvision's published ones take images as others do and bring them to [-1,1] inside."""
    side = 96
    library, _ = put(cache, arch, transform_input=True, init_weights=False)
    network, report = load_backbone(arch)
    assert (report.mean, report.std) == ((0.5,) * 3, (0.5,) * 3)
    x = images(side)

    def normalized(mean, std):
        mean, std = (torch.tensor(v)[:, None, None] for v in (mean, std))
        return (x - mean) / std

    library.fc = nn.Identity()
    with torch.no_grad():
        expected = library(normalized(IMAGENET_MEAN, IMAGENET_STD))
        found = network(normalized(report.mean, report.std))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert sorted(report.head) == ["fc.bias", "fc.weight"]


def test_a_network_of_one_size_says_so():
    from mgd_ssl.models import Taps

    with pytest.raises(ValueError, match=r"takes no images of 96 pixels .*--size 224"):
        probe(create_backbone("vit_b_16"), Taps([]), 96)
