"""DINO's, MoCo v3's, MAE's and timm's ViTs: told apart where their entries are alike."""

import argparse

import numpy as np
import pytest
import timm
import torch
from official_files import as_zeros, images, random_state, vit_shapes
from reference_vits import vit

from mgd_ssl.models import create_backbone, load_backbone, load_classifier
from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.families import know, recognize

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SIDE, WIDTH = 4, 128


def mae_positions(side, width):
    """util/pos_embed.py of facebookresearch/mae, by its formula: the column first."""
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    rates = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
    found = np.zeros((1, 1 + side * side, width))
    for place, (column, row) in enumerate(zip(columns.flat, rows.flat, strict=True)):
        parts = [np.sin(column * rates), np.cos(column * rates)]
        parts += [np.sin(row * rates), np.cos(row * rates)]
        found[0, 1 + place] = np.concatenate(parts)
    return torch.from_numpy(found).float()


def moco_positions(side, width):
    """vits.py of facebookresearch/moco-v3, by its formula: the row first."""
    w, h = torch.meshgrid(*[torch.arange(side, dtype=torch.float32)] * 2, indexing="ij")
    omega = 1.0 / 10000.0 ** (torch.arange(width // 4, dtype=torch.float32) / (width // 4))
    w, h = torch.outer(w.flatten(), omega), torch.outer(h.flatten(), omega)
    grid = torch.cat([w.sin(), w.cos(), h.sin(), h.cos()], dim=1)
    return torch.cat([torch.zeros(1, 1, width), grid[None]], dim=1)


def state_of(width=WIDTH, depth=2, *, positions=None, side=SIDE, **options):
    state = random_state(vit_shapes(width, depth, side=side, **options))
    return state | ({"pos_embed": positions(side, width)} if positions else {})


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def zeros(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


def dino_checkpoint(state):
    """main_dino.py's: the student by DDP, the teacher without, heads beside both."""
    head = {"head.mlp.0.weight": torch.randn(8, 8), "head.last_layer.weight_g": torch.ones(8, 1)}
    return {
        "student": prefixed("module.backbone.", zeros(state)) | prefixed("module.", head),
        "teacher": prefixed("backbone.", state) | head,
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
    }


def moco_checkpoint(state):
    """main_moco.py's: the base encoder beside its average; a projector in the head's place."""
    head = {"head.0.weight": torch.randn(8, WIDTH), "head.1.weight": torch.ones(8)}
    return {
        "arch": "vit_small",
        "state_dict": prefixed("module.base_encoder.", state | head)
        | prefixed("module.momentum_encoder.", zeros(state | head))
        | {"module.predictor.0.weight": torch.randn(8, 8)},
    }


def mae_checkpoint(state):
    """main_pretrain.py's: encoder and decoder in one."""
    decoder = {
        "mask_token": torch.randn(1, 1, 64),
        "decoder_pos_embed": torch.randn(1, 17, 64),
        "decoder_embed.weight": torch.randn(64, WIDTH),
        "decoder_blocks.0.norm1.weight": torch.ones(64),
        "decoder_norm.weight": torch.ones(64),
        "decoder_pred.weight": torch.randn(768, 64),
    }
    return {"model": state | decoder, "args": argparse.Namespace(model="mae_vit_base_patch16")}


# name -> (file of a state, its positions, layout, entries of a head, entries set aside)
FILES = {
    "DINO": (lambda s: s, None, "vit", 0, 0),
    "DINO, in training": (dino_checkpoint, None, "vit", 0, 0),
    "timm, a classifier": (
        lambda s: s | {"head.weight": torch.randn(5, WIDTH), "head.bias": torch.randn(5)},
        None,
        "vit",
        2,
        0,
    ),
    "MoCo v3": (moco_checkpoint, moco_positions, "moco v3", 2, 0),
    "MoCo v3, as DeiT": (lambda s: {"model": s}, moco_positions, "moco v3", 0, 0),
    "MAE": (lambda s: {"model": s}, mae_positions, "mae", 0, 0),
    "MAE, in training": (mae_checkpoint, mae_positions, "mae", 0, 6),
}


@torch.no_grad()
def assert_same(network, state, x, heads):
    class_token, tokens = vit(state, x, heads)
    torch.testing.assert_close(network(x), class_token, **CLOSE)
    torch.testing.assert_close(network.forward_features(x)[:, 1:], tokens, **CLOSE)
    assert network.num_prefix_tokens == 1


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_authors_tokens(name, tmp_path):
    write, positions, layout, head, aside = FILES[name]
    state = state_of(positions=positions)
    torch.save(write(state), tmp_path / "a.pth")
    network, report = load_backbone(tmp_path / "a.pth")
    assert_same(network, state, images(64), heads=2)
    assert report.layout == layout
    assert (report.missing, report.unexpected) == ([], [])
    assert (len(report.head), len(report.aside)) == (head, aside)
    assert report.size == 64  # the file's grid of 4 patches of 16 pixels


@pytest.mark.parametrize(
    ("positions", "heads"), [(moco_positions, 12), (mae_positions, 6), (None, 6)]
)
def test_moco_v3s_small_one_has_twelve_heads_and_all_others_six(positions, heads, tmp_path):
    state = state_of(384, 2, positions=positions)
    torch.save(state, tmp_path / "a.pth")
    network, report = load_backbone(tmp_path / "a.pth")
    assert network.blocks[0].attn.num_heads == heads
    assert_same(network, state, images(64), heads)
    x = images(64)
    assert (vit(state, x, 12)[0] - vit(state, x, 6)[0]).abs().max() > 1e-3
    assert any("12 attention heads" in text for text in report.remarks) == (heads == 12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("positions", "layout"), [(moco_positions, "moco v3"), (mae_positions, "mae")]
)
def test_positions_are_known_in_half_precision(positions, layout, dtype, tmp_path):
    state = {k: v.to(dtype) for k, v in state_of(positions=positions, side=14).items()}
    torch.save(state, tmp_path / "a.pth")
    assert load_backbone(tmp_path / "a.pth")[1].layout == layout


def test_a_network_fine_tuned_by_its_pooled_patches_is_pooled_so(tmp_path):
    state = state_of(positions=mae_positions)
    state["fc_norm.weight"], state["fc_norm.bias"] = (
        state.pop("norm.weight"),
        state.pop("norm.bias"),
    )
    head = {"head.weight": torch.randn(5, WIDTH), "head.bias": torch.randn(5)}
    torch.save({"model": state | head}, tmp_path / "mae_finetuned_vit_base.pth")
    network, report = load_backbone(tmp_path / "mae_finetuned_vit_base.pth")
    x = images(64)
    with torch.no_grad():
        pooled = vit(state, x, 2)[0]
        torch.testing.assert_close(network(x), pooled, **CLOSE)
        classifier, report = load_classifier(tmp_path / "mae_finetuned_vit_base.pth")
        logits = pooled @ head["head.weight"].T + head["head.bias"]
        torch.testing.assert_close(classifier(x), logits, **CLOSE)
    assert report.classes == 5


PUBLISHED = {
    "dino_deitsmall16_pretrain.pth": ((384, 12, 16, 14), None, "small_patch16_224", "Apache-2.0"),
    "dino_deitsmall8_pretrain.pth": ((384, 12, 8, 28), None, "small_patch8_224", "Apache-2.0"),
    "dino_vitbase16_pretrain.pth": ((768, 12, 16, 14), None, "base_patch16_224", "Apache-2.0"),
    "dino_vitbase8_pretrain.pth": ((768, 12, 8, 28), None, "base_patch8_224", "Apache-2.0"),
    "vit-b-300ep.pth.tar": ((768, 12, 16, 14), moco_positions, "base_patch16_224", "CC BY-NC 4.0"),
    "mae_pretrain_vit_base.pth": (
        (768, 12, 16, 14),
        mae_positions,
        "base_patch16_224",
        "CC BY-NC 4.0",
    ),
    "mae_pretrain_vit_large.pth": (
        (1024, 24, 16, 14),
        mae_positions,
        "large_patch16_224",
        "CC BY-NC 4.0",
    ),
    "mae_pretrain_vit_huge.pth": (
        (1280, 32, 14, 16),
        mae_positions,
        "huge_patch14_224",
        "CC BY-NC 4.0",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_is_told_by_its_shapes(name, tmp_path):
    (width, depth, patch, side), positions, arch, terms = PUBLISHED[name]
    state = as_zeros(vit_shapes(width, depth, patch=patch, side=side))
    state |= {"pos_embed": positions(side, width)} if positions else {}
    family = recognize(state)
    known = know(family, state, None, tmp_path / name)
    assert known.spec.arch == f"timm/vit_{arch}" and not known.spec.options
    assert {k: v.shape for k, v in known.read.state.items()} == backbone_shapes(known.spec)
    assert family.terms_of(tmp_path / name).license == terms


def test_the_published_small_dino_is_read_at_224(tmp_path):
    state = state_of(384, 12, side=14)
    torch.save(state, tmp_path / "dino_deitsmall16_pretrain.pth")
    network, report = load_backbone(tmp_path / "dino_deitsmall16_pretrain.pth")
    assert_same(network, state, images(224, count=1), 6)
    assert report.size == 224 and not report.spec.options
    with torch.no_grad():
        assert network(images(96)).shape == (2, 384)  # its positions are resized


@pytest.mark.parametrize(
    ("arch", "options", "layout"),
    [
        ("vit_small_patch16_224", {"img_size": 96}, "vit"),
        ("vit_base_patch32_224", {}, "vit"),
        ("vit_huge_patch14_224", {"depth": 1}, "vit"),
        ("vit_tiny_patch16_224", {"reg_tokens": 4}, "vit"),
        ("deit3_small_patch16_224", {}, "vit"),
        ("vit_small_patch14_dinov2", {"img_size": 98}, "dinov2, timm"),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 98}, "dinov2, timm"),
        (
            "vit_giant_patch14_reg4_dinov2",
            {"depth": 1, "embed_dim": 128, "num_heads": 2},
            "dinov2, timm",
        ),
    ],
)
def test_timms_own_files_are_told_by_their_entries(arch, options, layout, tmp_path):
    network = create_backbone(f"timm/{arch}", options={"depth": 2} | options).eval()
    state = random_state({k: v.shape for k, v in network.state_dict().items()})
    network.load_state_dict(state)
    torch.save(state, tmp_path / "a.pth")
    loaded, report = load_backbone(tmp_path / "a.pth")
    assert report.layout == layout
    side = 56 if "patch14" in arch else 64
    with torch.no_grad():
        torch.testing.assert_close(loaded(images(side)), network(images(side)), **CLOSE)


def test_positions_of_another_size_are_resized_as_timm_does(tmp_path):
    state = state_of(384, 2, side=4)
    torch.save(state, tmp_path / "a.pth")
    network, _ = load_backbone(tmp_path / "a.pth")
    plain = timm.create_model("vit_small_patch16_224", img_size=96, depth=2, num_classes=0).eval()
    resized = timm.layers.resample_abs_pos_embed(state["pos_embed"], new_size=[6, 6])
    plain.load_state_dict(state | {"pos_embed": resized})
    with torch.no_grad():
        torch.testing.assert_close(network(images(96)), plain(images(96)), **CLOSE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"blocks.1.norm3.weight": torch.ones(128)}, "1 unexpected"),
        (lambda s: {k: v for k, v in s.items() if k != "cls_token"}, r"17 positions and 0 prefix"),
        (lambda s: {k: v for k, v in s.items() if k != "norm.bias"}, r"1 missing"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(change, said, tmp_path):
    torch.save(change(state_of()), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=said):
        load_backbone(tmp_path / "a.pth")


@pytest.mark.parametrize("arch", ["test_vit", "vit_base_patch14_reg1_tipsv2"])
def test_entries_of_one_network_of_timm_alone_are_read_as_that_network(arch, tmp_path):
    """TIPSv2 has DINOv2's entries but for its registers; test_vit has heads of 32 channels."""
    network = timm.create_model(arch)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    _, report = load_backbone(tmp_path / "w.pth")
    assert report.spec.arch == f"timm/{arch}" and not report.spec.options
    assert report.mean == timm.get_pretrained_cfg(arch).mean
    assert "heads" not in str(report)
