"""Image towers of CLIP and SigLIP give their authors' features; text towers are left."""

import pytest
import timm
import torch
from official_files import as_zeros, clip_shapes, images, random_state, siglip_shapes, text_tower
from reference_clip import clip, quick_gelu, siglip
from torch.nn.functional import gelu

from mgd_ssl.models import create_backbone, load_backbone
from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.families import know, recognize

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
QUICK, PLAIN = "vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip_224"


def write(path, tower, prefix="visual."):
    path.parent.mkdir(exist_ok=True)
    torch.save({prefix + k: v for k, v in tower.items()} | text_tower(), path)
    return path


@torch.no_grad()
def assert_same(network, expected, x):
    pooled, tokens = expected
    torch.testing.assert_close(network(x), pooled, **CLOSE)
    found = network.forward_features(x)[:, network.num_prefix_tokens :]
    torch.testing.assert_close(found, tokens, **CLOSE)


@pytest.mark.parametrize("prefix", ["visual.", "module.visual."])
@pytest.mark.parametrize(
    ("folder", "activation", "arch"),
    [
        ("CLIP-ViT-B-16-laion2B-s34B-b88K", gelu, PLAIN),
        ("CLIP-ViT-B-16-DataComp.XL-s13B-b90K", gelu, PLAIN),
        ("clip-vit-base-patch16-openai", quick_gelu, QUICK),
        ("metaclip-b16", quick_gelu, QUICK),
        ("DFN2B-CLIP-ViT-B-16", quick_gelu, QUICK),
    ],
)
def test_an_image_tower_gives_its_class_token(folder, activation, arch, prefix, tmp_path):
    state = random_state(clip_shapes(128, 2))
    path = write(tmp_path / folder / "open_clip_pytorch_model.bin", state, prefix)
    network, report = load_backbone(path)
    x = images(64)
    assert_same(network, clip(state, x, 2, activation), x)
    assert (report.layout, report.spec.arch) == ("clip", f"timm/{arch}")
    assert report.head == ["proj"]
    assert report.place == f"the file itself, prefix {prefix}"
    assert "as the file's name says" in str(report)
    cfg = timm.get_pretrained_cfg("vit_base_patch16_clip_224.openai")
    assert (report.mean, report.std, report.size) == (cfg.mean, cfg.std, 64)


def test_an_activation_that_nothing_tells_is_asked_for(tmp_path):
    state = random_state(clip_shapes(128, 2))
    path = write(tmp_path / "towers" / "a.bin", state)
    with pytest.raises(ValueError, match=rf"activation no entry shows.*{QUICK} or.*{PLAIN}"):
        load_backbone(path)
    x = images(64)
    for arch, activation in ((QUICK, quick_gelu), (PLAIN, gelu)):
        network, _ = load_backbone(path, arch=f"timm/{arch}")
        assert_same(network, clip(state, x, 2, activation), x)
    with torch.no_grad():
        apart = clip(state, x, 2, gelu)[0] - clip(state, x, 2, quick_gelu)[0]
    assert apart.abs().max() > 1e-3


def test_the_tower_alone_is_read(tmp_path):
    state = random_state(clip_shapes(128, 2))
    torch.save(state, tmp_path / "laion.pt")
    network, _ = load_backbone(tmp_path / "laion.pt")
    assert_same(network, clip(state, images(64), 2), images(64))


SIZES = {
    "ViT-B-32": (768, 12, 32, 7, "base_patch32_clip_224"),
    "ViT-B-16": (768, 12, 16, 14, "base_patch16_clip_224"),
    "ViT-L-14": (1024, 24, 14, 16, "large_patch14_clip_224"),
    "ViT-H-14": (1280, 32, 14, 16, "huge_patch14_clip_224"),
}


@pytest.mark.parametrize("name", SIZES)
def test_every_published_size_of_clip_is_told_by_its_shapes(name, tmp_path):
    width, depth, patch, side, arch = SIZES[name]
    state = as_zeros(clip_shapes(width, depth, patch=patch, side=side))
    known = know(recognize(state), state, None, tmp_path / "laion2b.bin")
    assert known.spec.arch == f"timm/vit_{arch}" and not known.spec.options
    assert {k: v.shape for k, v in known.read.state.items()} == backbone_shapes(known.spec)


def test_siglip_pools_by_attention(tmp_path):
    state = random_state(siglip_shapes(128, 2))
    path = write(tmp_path / "a" / "open_clip_pytorch_model.bin", state, "visual.trunk.")
    network, report = load_backbone(path)
    assert_same(network, siglip(state, images(64), 2), images(64))
    assert network.num_prefix_tokens == 0
    assert (report.layout, report.mean, report.std) == ("siglip", (0.5,) * 3, (0.5,) * 3)
    assert (report.missing, report.unexpected, report.head) == ([], [], [])


SIGLIP_SIZES = {
    "ViT-B-16": (768, 12, 16, 14, 3072, "base_patch16_siglip_224"),
    "ViT-L-16-256": (1024, 24, 16, 16, 4096, "large_patch16_siglip_256"),
    "ViT-SO400M-14": (1152, 27, 14, 16, 4304, "so400m_patch14_siglip_224"),
    "ViT-gopt-16-256": (1536, 40, 16, 16, 6144, "giantopt_patch16_siglip_256"),
}


@pytest.mark.parametrize("name", SIGLIP_SIZES)
def test_every_published_size_of_siglip_is_told_by_its_shapes(name):
    width, depth, patch, side, hidden, arch = SIGLIP_SIZES[name]
    state = as_zeros(siglip_shapes(width, depth, patch=patch, side=side, hidden=hidden))
    known = know(recognize(state), state)
    assert known.spec.arch == f"timm/vit_{arch}" and not known.spec.options
    assert {k: v.shape for k, v in known.read.state.items()} == backbone_shapes(known.spec)


@pytest.mark.parametrize(
    ("arch", "layout"), [(QUICK, "clip, timm"), ("vit_base_patch16_siglip_224", "siglip")]
)
def test_timms_own_files_are_read(arch, layout, tmp_path):
    network = create_backbone(f"timm/{arch}", options={"depth": 1, "img_size": 64}).eval()
    state = random_state({k: v.shape for k, v in network.state_dict().items()})
    network.load_state_dict(state)
    torch.save(state, tmp_path / "model.openai.pt")
    loaded, report = load_backbone(tmp_path / "model.openai.pt")
    assert (report.layout, report.spec.arch) == (layout, f"timm/{arch}")
    with torch.no_grad():
        torch.testing.assert_close(loaded(images(64)), network(images(64)), **CLOSE)
