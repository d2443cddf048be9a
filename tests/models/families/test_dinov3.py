"""DINOv3's files give the authors' class token and patch tokens, biases and periods kept."""

import pytest
import timm
import torch
from official_files import as_zeros, dinov3_shapes, dinov3_state, images
from reference_vits import dinov3

from mgd_ssl.models import create_backbone, load_backbone
from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.families import know, recognize

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
TINY = {"width": 128, "depth": 3, "heads": 2}
# name -> what differs from the tiny network, and the architecture that is told
VARIANTS = {
    "mlp": ({}, "vit_small_patch16_dinov3_qkvb"),
    "SwiGLU": ({"gated": True, "hidden": 192}, "vit_small_plus_patch16_dinov3_qkvb"),
    "no biases of queries": ({"biased": False}, "vit_small_patch16_dinov3"),
    "a norm of small crops": ({"local_norm": True}, "vit_small_patch16_dinov3_qkvb"),
    "heads of 32 channels": ({"heads": 4}, "vit_small_patch16_dinov3_qkvb"),
}


def write(path, state):
    torch.save(state, path)
    return path


@torch.no_grad()
def assert_same(network, state, x, heads):
    """Pooled features are the reference's class token; tokens after the prefix its patches'."""
    class_token, registers, tokens = dinov3(state, x, heads)
    assert network.num_prefix_tokens == 1 + registers.shape[1] == 5
    torch.testing.assert_close(network(x), class_token, **CLOSE)
    torch.testing.assert_close(network.forward_features(x)[:, 5:], tokens, **CLOSE)


@pytest.mark.parametrize("side", [32, 80])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_gives_the_authors_tokens(name, side, tmp_path):
    options, arch = VARIANTS[name]
    state = dinov3_state(**TINY | options)
    network, report = load_backbone(write(tmp_path / "dinov3.pth", state))
    assert_same(network, state, images(side), (TINY | options)["heads"])
    assert (report.layout, report.spec.arch) == ("dinov3", f"timm/{arch}")
    assert (report.missing, report.unexpected, report.head) == ([], [], [])
    kept = {k for k in state if "bias_mask" not in k and not k.startswith("local_cls_norm")}
    assert {*report.aside} == (state.keys() - kept) | {"mask_token", "rope_embed.periods"}
    assert report.remarks == [] and report.size is None


def test_images_that_are_not_square_are_taken_as_the_authors_take_them(tmp_path):
    state = dinov3_state(**TINY)
    network, _ = load_backbone(write(tmp_path / "dinov3.pth", state))
    assert_same(network, state, images(64)[..., :32], 2)


def test_without_its_biases_the_network_would_compute_something_else(tmp_path):
    """timm's names without _qkvb drop the biases and say nothing; here they are kept."""
    state = dinov3_state(**TINY)
    path = write(tmp_path / "dinov3.pth", state)
    bare = {key: torch.zeros_like(v) if "qkv.bias" in key else v for key, v in state.items()}
    x = images(32)
    assert (dinov3(state, x, 2)[0] - dinov3(bare, x, 2)[0]).abs().max() > 1e-2
    network, _ = load_backbone(path, arch="vit_small_patch16_dinov3")
    assert_same(network, state, x, 2)


def test_timm_pools_the_patches_and_this_project_the_class_token(tmp_path):
    state = dinov3_state(**TINY)
    network, _ = load_backbone(write(tmp_path / "dinov3.pth", state))
    own = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0)
    assert (own.global_pool, network.global_pool) == ("avg", "token")
    named = create_backbone("timm/vit_small_patch16_dinov3_qkvb.lvd1689m")
    assert named.global_pool == "token"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_files_periods_are_used_to_the_last_bit(dtype, tmp_path):
    """timm computes its own, which differ by what bfloat16 rounds away."""
    state = dinov3_state(**TINY)
    state["rope_embed.periods"] = state["rope_embed.periods"].to(dtype)
    network, _ = load_backbone(write(tmp_path / "dinov3.pth", state))
    assert torch.equal(network.rope.periods, state["rope_embed.periods"].float())
    exact = 100.0 ** (torch.arange(16) / 16)
    assert 1e-4 < (network.rope.periods / exact - 1).abs().max() < 2**-8
    exactly = state | {"rope_embed.periods": exact}
    x = images(224, count=1)
    assert (dinov3(state, x, 2)[0] - dinov3(exactly, x, 2)[0]).abs().max() > 1e-4
    assert_same(network, state | {"rope_embed.periods": state["rope_embed.periods"].float()}, x, 2)


def with_key_biases(state):
    """As a file is whose masks were lost, and whose key biases are not zero."""
    return {key: value for key, value in state.items() if not key.endswith("bias_mask")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_key_biases, r"blocks\.0\.attn\.qkv\.bias: got key biases that are not zero"),
        (lambda s: s | {"blocks.1.attn.qkv.bias": torch.ones(100)}, "expected three equal parts"),
        (
            lambda s: s | {"blocks.1.attn.qkv.bias_mask": torch.full((384,), float("nan"))},
            "key biases that are not zero",
        ),
        (lambda s: s | {"rope_embed.periods": torch.ones(12)}, "a quarter of a head's channels"),
        (lambda s: s | {"cls_norm.weight": torch.ones(128)}, r"1 unexpected[\s\S]*cls_norm"),
        (lambda s: s | {"norm.bias": torch.ones(64)}, r"shape of norm\.bias"),
        (lambda s: {k: v for k, v in s.items() if k != "blocks.2.ls2.gamma"}, "1 missing"),
        (lambda s: {k: v for k, v in s.items() if k != "blocks.0.attn.qkv.bias"}, "4 unexpected"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(change, said, tmp_path):
    state = change(dinov3_state(**TINY))
    with pytest.raises(ValueError, match=said):
        load_backbone(write(tmp_path / "broken.pth", state))


PUBLISHED = {
    "vits16": ({"width": 384, "depth": 12, "heads": 6}, "small_patch16_dinov3_qkvb"),
    "vits16plus": (
        {"width": 384, "depth": 12, "heads": 6, "gated": True, "hidden": 1536},
        "small_plus_patch16_dinov3_qkvb",
    ),
    "vitb16": ({"width": 768, "depth": 12, "heads": 12}, "base_patch16_dinov3_qkvb"),
    "vitl16": ({"width": 1024, "depth": 24, "heads": 16}, "large_patch16_dinov3_qkvb"),
    "vith16plus": (
        {"width": 1280, "depth": 32, "heads": 20, "gated": True, "hidden": 5120},
        "huge_plus_patch16_dinov3_qkvb",
    ),
    "vit7b16": (
        {"width": 4096, "depth": 40, "heads": 32, "gated": True, "hidden": 8192, "biased": False}
        | {"local_norm": True},
        "7b_patch16_dinov3",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_is_told_by_its_shapes(name):
    options, arch = PUBLISHED[name]
    state = as_zeros(dinov3_shapes(**options))
    known = know(recognize(state), state)
    assert known.spec.arch == f"timm/vit_{arch}" and not known.spec.options
    wanted = backbone_shapes(known.spec)
    assert {key: value.shape for key, value in known.read.state.items()} == wanted
    assert known.read.heads == options["heads"]


def test_the_published_small_one_is_read_at_224(tmp_path):
    state = dinov3_state(**PUBLISHED["vits16"][0])
    path = write(tmp_path / "dinov3_vits16_pretrain_lvd1689m-08c60483.pth", state)
    network, report = load_backbone(path)
    assert_same(network, state, images(224, count=1), 6)
    assert "Built with DINOv3" in report.provenance.to_dict()["obligation"]
    assert "DINOv3 License" in str(report)


def test_a_large_one_with_swiglu_is_built_though_timm_has_no_name_for_it():
    options = {"width": 1024, "depth": 24, "heads": 16, "gated": True, "hidden": 4096}
    state = as_zeros(dinov3_shapes(**options))
    known = know(recognize(state), state)
    assert {k: v.shape for k, v in known.read.state.items()} == backbone_shapes(known.spec)
    assert dict(known.spec.options)["num_heads"] == 16


def test_a_file_of_satellite_images_brings_their_normalization(tmp_path):
    state = dinov3_state(**TINY, local_norm=True)
    path = write(tmp_path / "dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth", state)
    _, report = load_backbone(path)
    cfg = timm.get_pretrained_cfg("vit_large_patch16_dinov3.sat493m")
    assert (report.mean, report.std) == (cfg.mean, cfg.std)
    assert "as the file's name says" in str(report)
    assert load_backbone(write(tmp_path / "other.pth", state))[1].mean != cfg.mean


def test_eupe_is_dinov3s_network_under_terms_of_its_own(tmp_path):
    state = dinov3_state(**TINY) | {"projectors.0.weight": torch.randn(8, 128)}
    network, report = load_backbone(write(tmp_path / "EUPE-ViT-S.pt", state))
    assert_same(network, state, images(32), 2)
    assert "projectors.0.weight" in report.aside
    assert report.terms.license == "FAIR Noncommercial Research License"


@pytest.mark.parametrize("arch", ["vit_small_patch16_dinov3_qkvb", "vit_small_patch16_dinov3"])
def test_timms_own_names_are_read(arch, tmp_path):
    network = create_backbone(f"timm/{arch}", options={"depth": 2}).eval()
    torch.save(network.state_dict(), tmp_path / "a.pt")
    loaded, report = load_backbone(tmp_path / "a.pt")
    assert (report.layout, report.spec.arch) == ("dinov3, timm", f"timm/{arch}")
    assert report.terms.license == "DINOv3 License"
    with torch.no_grad():
        assert torch.equal(loaded(images(32)), network(images(32)))
