"""Hugging Face's names of DINOv2 and DINOv3 give the tokens of the authors' own files."""

import re

import pytest
import torch
from official_files import dinov2_shapes, dinov3_state, images, random_state
from reference_vits import dinov2, dinov3
from safetensors.torch import save_file

from mgd_ssl.models import load_backbone

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
TINY = {"width": 128, "depth": 2, "side": 4}
BLOCK = {
    r"attn\.proj\.": "attention.output.dense.",
    r"ls([12])\.gamma": r"layer_scale\1.lambda1",
    r"mlp\.w12\.": "mlp.weights_in.",
    r"mlp\.w3\.": "mlp.weights_out.",
}
OUTSIDE = {
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "norm.": "layernorm.",
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "storage_tokens": "embeddings.register_tokens",
}


def hugging_face_dinov2(state):
    """Dinov2Model's entries of the authors' weights, as its saved files have them."""
    found = {}
    for key, value in state.items():
        words = key.split(".")
        if words[0] != "blocks":
            start = next(s for s in OUTSIDE if key.startswith(s))
            found[OUTSIDE[start] + key.removeprefix(start)] = value
            continue
        layer, rest = f"encoder.layer.{words[1]}.", ".".join(words[2:])
        if rest.startswith("attn.qkv."):
            kind = words[-1]
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{layer}attention.attention.{name}.{kind}"] = part.contiguous()
            continue
        for pattern, new in BLOCK.items():
            rest = re.sub(pattern, new, rest)
        found[layer + rest] = value
    return found


def in_memory(state):
    """The same as transformers 5 names them in a network's own state dict."""
    rules = {
        r"attention\.attention\.query": "attention.q_proj",
        r"attention\.attention\.key": "attention.k_proj",
        r"attention\.attention\.value": "attention.v_proj",
        r"attention\.output\.dense": "attention.o_proj",
        r"mlp\.weights_out": "mlp.down_proj",
    }
    found = {}
    for key, value in state.items():
        for pattern, new in rules.items():
            key = re.sub(pattern, new, key)
        if "weights_in" in key:
            gate, up = value.chunk(2)
            found[key.replace("weights_in", "gate_proj")] = gate.contiguous()
            found[key.replace("weights_in", "up_proj")] = up.contiguous()
        else:
            found[key] = value
    return found


def hugging_face_dinov3(state, prefix=""):
    """DINOv3ViTModel's entries of the authors' weights; it computes the periods itself."""
    gated = "blocks.0.mlp.w1.weight" in state
    mlp = {"w1": "gate_proj", "w2": "up_proj", "w3": "down_proj"}
    names = mlp if gated else {"fc1": "up_proj", "fc2": "down_proj"}
    found = {}
    for key, value in state.items():
        words = key.split(".")
        if words[0] in ("norm", "local_cls_norm"):
            found[key] = value
        elif words[0] == "patch_embed":
            found[f"embeddings.patch_embeddings.{words[-1]}"] = value
        elif words[0] == "mask_token":
            found["embeddings.mask_token"] = value[None]
        elif words[0] in OUTSIDE:
            found[OUTSIDE[words[0]]] = value
        elif words[0] == "blocks" and words[-1] != "bias_mask":
            layer, rest = f"{prefix}layer.{words[1]}.", ".".join(words[2:])
            if rest.startswith("attn.qkv."):
                for name, part in zip("qkv", value.chunk(3), strict=True):
                    if name != "k" or words[-1] == "weight":
                        key = f"{layer}attention.{name}_proj.{words[-1]}"
                        found[key] = part.contiguous()
                continue
            rest = rest.replace("attn.proj.", "attention.o_proj.")
            rest = re.sub(r"ls([12])\.gamma", r"layer_scale\1.lambda1", rest)
            for old, new in names.items():
                rest = rest.replace(f"mlp.{old}.", f"mlp.{new}.")
            found[layer + rest] = value
    return found


def write(path, state):
    save_file(state, path, {"format": "pt"})
    return path


@torch.no_grad()
def assert_same(network, expected, x):
    class_token, registers, tokens = expected
    prefix = 1 + registers.shape[1]
    assert network.num_prefix_tokens == prefix
    torch.testing.assert_close(network(x), class_token, **CLOSE)
    torch.testing.assert_close(network.forward_features(x)[:, prefix:], tokens, **CLOSE)


@pytest.mark.parametrize("names", [lambda s: s, in_memory], ids=["saved", "in memory"])
@pytest.mark.parametrize(
    "options",
    [{}, {"registers": 4}, {"gated": True, "hidden": 176}],
    ids=["plain", "registers", "SwiGLU"],
)
def test_dinov2_gives_the_authors_tokens(options, names, tmp_path):
    state = random_state(dinov2_shapes(**TINY | options))
    path = write(tmp_path / "model.safetensors", names(hugging_face_dinov2(state)))
    network, report = load_backbone(path)
    for side in (56, 84):
        assert_same(network, dinov2(state, images(side), 2), images(side))
    assert report.layout == "dinov2, Hugging Face"
    assert (report.missing, report.unexpected) == ([], [])
    assert report.aside == ["embeddings.mask_token"]


@pytest.mark.parametrize("prefix", ["", "model."], ids=["saved", "in memory"])
@pytest.mark.parametrize(
    ("options", "arch"),
    [
        ({}, "vit_small_patch16_dinov3_qkvb"),
        ({"gated": True, "hidden": 192}, "vit_small_plus_patch16_dinov3_qkvb"),
        ({"biased": False}, "vit_small_patch16_dinov3"),
    ],
    ids=["mlp", "SwiGLU", "no biases"],
)
def test_dinov3_gives_the_authors_tokens(options, arch, prefix, tmp_path):
    state = dinov3_state(128, 2, heads=2, **options)
    state["rope_embed.periods"] = 100.0 ** (torch.arange(16) / 16)
    path = write(tmp_path / "model.safetensors", hugging_face_dinov3(state, prefix))
    network, report = load_backbone(path)
    assert_same(network, dinov3(state, images(64), 2), images(64))
    assert (report.layout, report.spec.arch) == ("dinov3, Hugging Face", f"timm/{arch}")
    assert (report.missing, report.unexpected) == ([], [])
    assert report.terms.license == "DINOv3 License"


def test_the_network_is_found_in_a_larger_one(tmp_path):
    state = random_state(dinov2_shapes(**TINY))
    larger = {f"dinov2.{k}": v for k, v in hugging_face_dinov2(state).items()}
    larger |= {"classifier.weight": torch.randn(10, 256), "classifier.bias": torch.randn(10)}
    network, report = load_backbone(write(tmp_path / "model.safetensors", larger))
    assert_same(network, dinov2(state, images(56), 2), images(56))
    assert report.place == "the file itself, prefix dinov2."


def test_a_satellite_network_is_told_by_the_folder_that_it_is_in(tmp_path):
    folder = tmp_path / "dinov3-vitl16-pretrain-sat493m"
    folder.mkdir()
    write(folder / "model.safetensors", hugging_face_dinov3(dinov3_state(128, 2, heads=2)))
    assert load_backbone(folder)[1].mean == (0.430, 0.411, 0.296)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            "encoder.layer.0.attention.attention.key.weight",
            r"1 missing, 2 unexpected[\s\S]*missing: blocks\.0\.attn\.qkv\.weight",
        ),
        ("encoder.layer.1.layer_scale2.lambda1", "1 missing, 0 unexpected"),
        ("embeddings.position_embeddings", "pos_embed: got no such entry"),
    ],
)
def test_a_file_that_lacks_a_key_is_refused(key, said, tmp_path):
    state = hugging_face_dinov2(random_state(dinov2_shapes(**TINY)))
    del state[key]
    with pytest.raises(ValueError, match=said):
        load_backbone(write(tmp_path / "model.safetensors", state))


def test_key_biases_that_dinov3_does_not_have_are_refused(tmp_path):
    state = hugging_face_dinov3(dinov3_state(128, 2, heads=2))
    state["layer.1.attention.k_proj.bias"] = torch.ones(128)
    with pytest.raises(ValueError, match="1 unexpected"):
        load_backbone(write(tmp_path / "model.safetensors", state))
