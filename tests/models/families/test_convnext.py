"""ConvNeXt's files, DINOv3's and Hugging Face's give the authors' pooled features and last map."""

import re

import pytest
import torch
from official_files import as_zeros, convnext_shapes, dinov3_convnext_state, images, random_state
from reference_convnext import convnext

from mgd_ssl.models import create_backbone, load_backbone, load_classifier
from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.families import know, recognize

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
TINY = ([1, 2, 3, 1], [16, 32, 64, 128])
SIZES = {
    "tiny": ([3, 3, 9, 3], 96),
    "small": ([3, 3, 27, 3], 96),
    "base": ([3, 3, 27, 3], 128),
    "large": ([3, 3, 27, 3], 192),
    "xlarge": ([3, 3, 27, 3], 256),
}


def hugging_face(state):
    """DINOv3ConvNextModel's entries of the authors' weights."""
    rules = {
        r"^downsample_layers\.(\d)": r"stages.\1.downsample_layers",
        r"^stages\.(\d)\.(\d+)\.": r"stages.\1.layers.\2.",
        r"\.norm\.": ".layer_norm.",
        r"\.dwconv\.": ".depthwise_conv.",
        r"\.pwconv": ".pointwise_conv",
        r"^norm\.": "layer_norm.",
    }
    found = {}
    for key, value in state.items():
        if not key.startswith("norms."):
            for pattern, new in rules.items():
                key = re.sub(pattern, new, key)
            found[key] = value
    return found


def in_memory(state):
    """The same as transformers 5 names them in a network's own state dict."""
    found = hugging_face(state)
    return {f"model.{k}" if k.startswith("stages.") else k: v for k, v in found.items()}


LAYOUTS = {
    "dinov3, ConvNeXt": lambda state: state,
    "convnext": lambda state: {k: v for k, v in state.items() if not k.startswith("norms.")},
    "dinov3, ConvNeXt, Hugging Face": hugging_face,
}


@torch.no_grad()
def assert_same(network, state, x):
    pooled, last = convnext(state, x)
    torch.testing.assert_close(network(x), pooled, **CLOSE)
    torch.testing.assert_close(network.forward_features(x), last, **CLOSE)


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_gives_the_authors_features(layout, side, tmp_path):
    state = dinov3_convnext_state(*TINY)
    torch.save(LAYOUTS[layout](state), tmp_path / "a.pth")
    network, report = load_backbone(tmp_path / "a.pth")
    assert_same(network, state, images(side))
    assert (report.layout, report.spec.arch) == (layout, "timm/convnext_tiny")
    assert (report.missing, report.unexpected, report.head) == ([], [], [])
    twice = ["norms.3.weight", "norms.3.bias"] if layout == "dinov3, ConvNeXt" else []
    assert report.aside == twice
    assert (report.terms is not None) == layout.startswith("dinov3")
    assert report.features == 128


def test_a_networks_own_names_in_memory_are_read(tmp_path):
    state = dinov3_convnext_state(*TINY)
    torch.save(in_memory(state), tmp_path / "a.pth")
    network, _ = load_backbone(tmp_path / "a.pth")
    assert_same(network, state, images(64))


@pytest.mark.parametrize("size", SIZES)
def test_every_published_size_is_told_by_its_shapes(size):
    depths, width = SIZES[size]
    state = as_zeros(convnext_shapes(depths, [width << i for i in range(4)]))
    for names in (lambda s: s, hugging_face):
        named = names(state)
        known = know(recognize(named), named)
        assert known.spec.arch == f"timm/convnext_{size}" and not known.spec.options
        wanted = backbone_shapes(known.spec)
        assert {key: value.shape for key, value in known.read.state.items()} == wanted


def test_the_published_tiny_one_is_read(tmp_path):
    state = dinov3_convnext_state([3, 3, 9, 3], [96, 192, 384, 768])
    path = tmp_path / "dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth"
    torch.save(state, path)
    network, report = load_backbone(path)
    assert_same(network, state, images(64, count=1))
    assert "Built with DINOv3" in report.terms.obligation


def test_a_last_norm_that_is_no_copy_is_refused(tmp_path):
    state = dinov3_convnext_state(*TINY)
    state["norms.3.weight"] = state["norm.weight"] + 1
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"1 unexpected[\s\S]*norms\.3\.weight"):
        load_backbone(tmp_path / "a.pth")


def test_a_classifier_is_read_with_its_head(tmp_path):
    state = random_state(convnext_shapes(*TINY))
    head = {"head.weight": torch.randn(7, 128), "head.bias": torch.randn(7)}
    torch.save({"model": state | head}, tmp_path / "convnext_tiny_1k_224_ema.pth")
    network, report = load_classifier(tmp_path / "convnext_tiny_1k_224_ema.pth")
    assert (report.classes, report.head) == (7, [])
    x = images(64)
    with torch.no_grad():
        logits = convnext(state, x)[0] @ head["head.weight"].T + head["head.bias"]
        torch.testing.assert_close(network(x), logits, **CLOSE)
    _, report = load_backbone(tmp_path / "convnext_tiny_1k_224_ema.pth")
    assert report.head == ["head.fc.weight", "head.fc.bias"]


@pytest.mark.parametrize("folder", ["convnext_tiny.fb_in1k", "convnext_tiny.dinov3_lvd1689m"])
def test_timms_own_names_are_read(folder, tmp_path):
    options = {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}
    network = create_backbone("timm/convnext_small", options=options).eval()
    (tmp_path / folder).mkdir()
    torch.save(network.state_dict(), tmp_path / folder / "model.pt")
    loaded, report = load_backbone(tmp_path / folder / "model.pt")
    assert report.layout == "convnext, timm"
    assert (report.terms is not None) == ("dinov3" in folder)
    with torch.no_grad():
        assert torch.equal(loaded(images(64)), network(images(64)))
