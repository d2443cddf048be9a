"""Files that hold no image network are told by what they hold, with what helps."""

import pytest
import torch
from official_files import (
    dinov2_shapes,
    dinov3_convnext_state,
    random_state,
    text_tower,
    vit_shapes,
)
from safetensors.torch import save_file

from mgd_ssl.models import create_backbone, load_backbone
from mgd_ssl.models.backbones import without_memory
from mgd_ssl.models.specs import BackboneSpec

W = torch.randn(8, 8)


def adapters(base="base_model.model."):
    """PEFT's adapter_model.safetensors of a ViT."""
    names = [f"blocks.{i}.attn.qkv" for i in range(2)]
    return {f"{base}{name}.lora_{part}.weight": W.clone() for name in names for part in "AB"}


def detector(backbone):
    """A body under a detector's prefix, and the parts beside it."""
    body = {f"backbone.net.{key}": value for key, value in backbone.items()}
    return body | {"proposal_generator.rpn_head.conv.weight": W, "roi_heads.box_head.fc1.weight": W}


HF_TEXT = {
    "text_model.embeddings.token_embedding.weight": W,
    "text_model.encoder.layers.0.self_attn.q_proj.weight": W,
    "text_projection.weight": W,
}
DETR = {
    "transformer.encoder.layers.0.self_attn.in_proj_weight": W,
    "class_embed.weight": W,
    "query_embed.weight": W,
}
DINO_HEAD = {
    "dino_head.mlp.0.weight": W,
    "dino_head.last_layer.weight_v": W,
    "ibot_head.mlp.0.weight": W,
}
OTHERS = {
    "adapters": (adapters, "adapters .LoRA. and not the network.*merge_and_unload"),
    "adapters beside a head": (lambda: adapters() | {"head.weight": W}, "adapters"),
    "a text tower of open_clip": (text_tower, "a text tower, expected one of images"),
    "a text tower of Hugging Face": (lambda: HF_TEXT, "a text tower, expected one of images"),
    "DETR": (lambda: DETR, "a detector, expected a classifier or a self-supervised network"),
    "a linear head": (lambda: {"weight": torch.randn(1000, 768), "bias": W[0]}, "a head alone"),
    "DINO's heads": (lambda: DINO_HEAD, "a head alone, expected the network under it"),
}


@pytest.mark.parametrize("arch", [None, "vit_small_patch14_dinov2"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_a_file_holds_instead_is_said(name, arch, tmp_path):
    make, said = OTHERS[name]
    for path, write in ((tmp_path / "a.pth", torch.save), (tmp_path / "a.safetensors", save_file)):
        write({k: v.clone() for k, v in make().items()}, path)
        with pytest.raises(ValueError, match=rf"{path.name} holds {said}"):
            load_backbone(path, arch=arch)


@pytest.mark.parametrize(
    "shapes", [vit_shapes(128, 2, side=4), dinov2_shapes(128, 2, side=4)], ids=["vit", "dinov2"]
)
def test_a_transformer_in_a_detector_is_refused(shapes, tmp_path):
    """ViTDet attends within windows with the same entries."""
    torch.save({"model": detector(random_state(shapes))}, tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match=r"a detector.*may attend within windows"):
        load_backbone(tmp_path / "model_final.pth")


def test_a_convolutional_body_of_a_detector_computes_the_same(tmp_path):
    state = dinov3_convnext_state([1, 1, 2, 1], [16, 32, 64, 128])
    torch.save({"model": detector(state)}, tmp_path / "model_final.pth")
    assert load_backbone(tmp_path / "model_final.pth")[1].missing == []


def test_merged_adapters_are_no_adapters(tmp_path):
    torch.save(random_state(vit_shapes(128, 2, side=4)), tmp_path / "merged.pth")
    assert load_backbone(tmp_path / "merged.pth")[1].missing == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pretrained_cfg": "x"}, "options: got 'pretrained_cfg', expected some of img_size"),
        ({"checkpoint_path": "/etc/passwd"}, "options: got 'checkpoint_path'"),
        ({"depth": 10**6}, "options: got 1000000 for depth, expected a whole number of at most"),
        ({"depth": True}, "options: got True for depth"),
        ({"depth": 2.5}, "options: got 2.5 for depth"),
        ({"mlp_ratio": float("nan")}, "options: got nan for mlp_ratio"),
        ({"global_pool": "os.system"}, "options: got 'os.system' for global_pool, expected one of"),
        ({"depths": [1, "2"]}, "options: got .* for depths"),
        ({"depths": []}, "options: got .* for depths"),
        ([["depth", 2]], "expected a mapping of a timm network's arguments"),
        ({3: 2}, "expected a mapping of a timm network's arguments"),
        ({"dims": [8, 16, 32, 64]}, "timm does not build vit_tiny_patch16_224 with"),
    ],
)
def test_a_file_sets_no_other_arguments_of_timms(options, said, tmp_path):
    state = create_backbone("timm/vit_tiny_patch16_224", options={"depth": 1}).state_dict()
    spec = {"arch": "timm/vit_tiny_patch16_224", "options": options}
    torch.save({"state_dict": state, "backbone": spec}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=said):
        load_backbone(tmp_path / "a.pt")


def test_a_description_is_read_back_with_its_options(tmp_path):
    options = {"depth": 1, "img_size": 64, "embed_dim": 128, "num_heads": 4}
    network = create_backbone("timm/vit_tiny_patch16_224", options=options)
    content = {"state_dict": network.state_dict(), "backbone": network.spec.to_dict()}
    torch.save(content, tmp_path / "a.pt")
    loaded, report = load_backbone(tmp_path / "a.pt")
    assert report.spec == network.spec and dict(report.spec.options) == options
    assert loaded.blocks[0].attn.num_heads == 4


def test_a_description_of_a_giant_takes_no_memory_where_the_file_is_not_its(tmp_path):
    options = {"depth": 64, "embed_dim": 16384, "num_heads": 16}
    state = create_backbone("timm/vit_tiny_patch16_224", options={"depth": 1}).state_dict()
    spec = {"arch": "timm/vit_tiny_patch16_224", "options": options}
    torch.save({"state_dict": state, "backbone": spec}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a partial load is refused"):
        load_backbone(tmp_path / "a.pt")  # 0.8 terabytes, if it were built


@pytest.mark.parametrize("arch", ["resnet18", "vit_b_16"])
def test_options_are_of_timms_networks_alone(arch):
    with pytest.raises(ValueError, match=r"options: got \{'depth': 2\} for"):
        without_memory(BackboneSpec(arch, options={"depth": 2}))
