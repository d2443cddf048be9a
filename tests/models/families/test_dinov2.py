"""DINOv2's files give the authors' class token and patch tokens, at any size, to 1e-5."""

import pytest
import torch
from official_files import dinov2_shapes, images, random_state
from reference_vits import dinov2

from mgd_ssl.models import load_backbone
from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.families import know, recognize

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
TINY = {"width": 128, "depth": 3, "side": 4}
# name -> what differs from the tiny network, and the architecture that is told
VARIANTS = {
    "plain": ({}, "vit_small_patch14_dinov2"),
    "registers": ({"registers": 4}, "vit_small_patch14_reg4_dinov2"),
    "two registers": ({"registers": 2}, "vit_small_patch14_reg4_dinov2"),
    "SwiGLU": ({"gated": True, "hidden": 176}, "vit_giant_patch14_dinov2"),
    "SwiGLU, registers": (
        {"gated": True, "hidden": 176, "registers": 4},
        "vit_giant_patch14_reg4_dinov2",
    ),
}


def write(path, state):
    torch.save(state, path)
    return path


@torch.no_grad()
def assert_same(network, state, side, heads):
    """Pooled features and patch tokens are the reference's class token and patch tokens."""
    x = images(side)
    class_token, registers, tokens = dinov2(state, x, heads)
    torch.testing.assert_close(network(x), class_token, **CLOSE)
    found = network.forward_features(x)[:, network.num_prefix_tokens :]
    torch.testing.assert_close(found, tokens, **CLOSE)
    assert network.num_prefix_tokens == 1 + registers.shape[1]


@pytest.mark.parametrize("side", [56, 84, 42])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_gives_the_authors_tokens(name, side, tmp_path):
    options, arch = VARIANTS[name]
    state = random_state(dinov2_shapes(**TINY | options))
    network, report = load_backbone(write(tmp_path / "dinov2.pth", state))
    assert_same(network, state, side, heads=2)
    assert (report.layout, report.spec.arch) == ("dinov2", f"timm/{arch}")
    assert (report.missing, report.unexpected, report.head) == ([], [], [])
    assert report.aside == ["mask_token"]
    assert report.matched + 1 == len(state)
    assert network.num_features == report.features == 128
    assert not network.training


def test_images_that_are_not_square_are_taken_as_the_authors_take_them(tmp_path):
    state = random_state(dinov2_shapes(**TINY))
    network, _ = load_backbone(write(tmp_path / "dinov2.pth", state))
    x = images(56)[..., :28]
    with torch.no_grad():
        torch.testing.assert_close(network(x), dinov2(state, x, 2)[0], **CLOSE)


PUBLISHED = {
    "vits14": (dinov2_shapes(384, 12), "vit_small_patch14_dinov2"),
    "vits14_reg4": (dinov2_shapes(384, 12, registers=4), "vit_small_patch14_reg4_dinov2"),
    "vitb14": (dinov2_shapes(768, 12), "vit_base_patch14_dinov2"),
    "vitb14_reg4": (dinov2_shapes(768, 12, registers=4), "vit_base_patch14_reg4_dinov2"),
    "vitl14": (dinov2_shapes(1024, 24), "vit_large_patch14_dinov2"),
    "vitl14_reg4": (dinov2_shapes(1024, 24, registers=4), "vit_large_patch14_reg4_dinov2"),
    "vitg14": (dinov2_shapes(1536, 40, gated=True, hidden=4096), "vit_giant_patch14_dinov2"),
    "vitg14_reg4": (
        dinov2_shapes(1536, 40, gated=True, hidden=4096, registers=4),
        "vit_giant_patch14_reg4_dinov2",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_is_told_by_its_shapes(name):
    shapes, arch = PUBLISHED[name]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    known = know(recognize(state), state)
    assert known.spec.arch == f"timm/{arch}"
    assert not known.spec.options  # timm's own are those of the published networks
    wanted = backbone_shapes(known.spec)
    assert {key: value.shape for key, value in known.read.state.items()} == wanted


@pytest.mark.parametrize("name", ["vits14", "vits14_reg4"])
def test_a_file_of_518_pixels_is_read_at_224(name, tmp_path):
    state = random_state(PUBLISHED[name][0])
    network, report = load_backbone(write(tmp_path / f"dinov2_{name}_pretrain.pth", state))
    assert_same(network, state, 224, heads=6)
    assert report.size is None  # any multiple of 14
    assert report.remarks == []


def test_a_checkpoint_of_dinov2s_training_gives_its_teacher(tmp_path):
    """Blocks in chunks, under teacher.backbone, beside the heads of DINO and iBOT."""
    state = random_state(dinov2_shapes(**TINY))

    def chunked(key):
        words = key.split(".")
        return ".".join(["blocks", str(int(words[1]) // 2), *words[1:]]) if "blocks" in key else key

    teacher = {f"backbone.{chunked(key)}": value for key, value in state.items()}
    teacher |= {"dino_head.mlp.0.weight": torch.randn(8, 8), "ibot_head.w": torch.randn(8)}
    student = {key: torch.zeros_like(value) for key, value in teacher.items()}
    content = {"student": student, "teacher": teacher}
    network, report = load_backbone(write(tmp_path / "teacher_checkpoint.pth", content))
    assert_same(network, state, 56, heads=2)
    assert report.place == "teacher, prefix backbone."


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("registers", [0, 4])
def test_other_precisions_are_cast_and_nothing_is_rounded_again(dtype, registers, tmp_path):
    """The class token's position is added in float32, not in the file's precision."""
    state = random_state(dinov2_shapes(**TINY, registers=registers))
    state = {key: value.to(dtype) for key, value in state.items()}
    network, _ = load_backbone(write(tmp_path / "half.pth", state))
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())
    assert_same(network, {k: v.float() for k, v in state.items()}, 56, heads=2)


def test_the_width_of_heads_is_said_where_it_is_assumed(tmp_path):
    state = random_state(dinov2_shapes(**TINY))
    _, report = load_backbone(write(tmp_path / "own.pth", state))
    assert "2 attention heads of 64 channels assumed" in str(report)


def test_the_architecture_that_the_user_names_is_held_against_the_file(tmp_path):
    state = random_state(dinov2_shapes(**TINY))
    path = write(tmp_path / "own.pth", state)
    _, report = load_backbone(path, arch="vit_small_patch14_dinov2")
    assert report.matched + 1 == len(state)
    with pytest.raises(ValueError, match=r"partial load is refused[\s\S]* --teacher-arch timm/vit"):
        load_backbone(path, arch="resnet18")


def test_a_published_size_is_not_read_as_another(tmp_path):
    path = write(tmp_path / "dinov2_vits14_pretrain.pth", random_state(PUBLISHED["vits14"][0]))
    said = r"partial load is refused[\s\S]*--teacher-arch timm/vit_small_patch14_dinov2"
    with pytest.raises(ValueError, match=said):
        load_backbone(path, arch="vit_base_patch14_dinov2")


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: without(s, "blocks.1.attn.qkv.bias"), r"1 missing[\s\S]*blocks\.1\.attn\.qkv"),
        (lambda s: without(s, "norm.weight"), r"1 missing[\s\S]*norm\.weight"),
        (lambda s: without(s, "pos_embed"), "cannot be told from its keys"),
        (lambda s: without(s, "blocks.0.mlp.fc1.weight"), r"mlp\.fc1\.weight: got no such entry"),
        (lambda s: s | {"blocks.1.norm3.weight": torch.ones(128)}, "1 unexpected"),
        (lambda s: s | {"pos_embed": torch.ones(1, 1 + 17, 128)}, "got 18 positions .* square"),
        (
            lambda s: s | {"pos_embed": torch.ones(1, 16, 128)},
            "got 16 positions, expected one more",
        ),
        (lambda s: s | {"pos_embed": torch.ones(17, 128)}, r"pos_embed: got the shape \(17, 128\)"),
        (lambda s: s | {"norm.weight": torch.ones(64)}, r"shape of norm\.weight: got \(64,\)"),
        (
            lambda s: s | {"patch_embed.proj.weight": torch.ones(128, 3, 14, 7)},
            "patches of 14×7 pixels",
        ),
        (lambda s: s | {"cls_token": s["cls_token"] * float("nan")}, "128 values that are NaN"),
        (lambda s: s | {"cls_token": s["cls_token"].to_sparse()}, "a tensor of layout"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(change, said, tmp_path):
    state = change(random_state(dinov2_shapes(**TINY)))
    with pytest.raises(ValueError, match=said):
        load_backbone(write(tmp_path / "broken.pth", state))


def test_tokens_of_no_whole_number_of_heads_are_refused(tmp_path):
    state = random_state(dinov2_shapes(96, 2, side=4))
    with pytest.raises(ValueError, match="96 channels, expected a multiple of 64"):
        load_backbone(write(tmp_path / "own.pth", state))
