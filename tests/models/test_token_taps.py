"""Maps of networks of every kind: tokens as maps, channels last, stages by their strides."""

from functools import partial

import pytest
import timm
import torch
from torch import nn
from torchvision.models import convnext_tiny, regnet_y_400mf, resnet18, swin_t, vit_b_32

from mgd_ssl.models import find_reader, probe
from mgd_ssl.models.taps import as_map


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("vit_tiny_patch16_224", 1), ("vit_small_patch14_reg4_dinov2", 5)],
)
def test_tokens_of_the_final_norm_are_a_map_without_class_token_and_registers(
    name: str, prefix: int
) -> None:
    network = timm.create_model(name, num_classes=0, dynamic_img_size=True, depth=2).eval()
    patch = network.patch_embed.patch_size[0]
    reader, images = find_reader(network, (), 3 * patch), torch.rand(2, 3, 3 * patch, 3 * patch)
    with torch.no_grad():
        (map_,), output = reader(network, images)
        tokens = network.forward_features(images)
    assert tokens.shape[1] == prefix + 9
    for row, column in ((0, 0), (1, 2), (2, 1)):
        assert torch.equal(map_[:, :, row, column], tokens[:, prefix + 3 * row + column])
    assert torch.equal(output, network(images))
    assert reader.rectified(network) == [False] and reader.norms(network) == [None]


def test_a_depth_of_a_vit_can_be_tapped() -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, depth=3)
    reader = find_reader(network, ["early=blocks.0", "late=blocks.2"], 64)
    assert [tuple(m.shape) for m in probe(network, reader, 64)] == [(2, 192, 4, 4)] * 2


@pytest.mark.parametrize(
    ("build", "channels", "rectified"),
    [
        (convnext_tiny, [96, 192, 384, 768], [False] * 4),
        (regnet_y_400mf, [48, 104, 208, 440], [True] * 4),
        (swin_t, [96, 192, 384, 768], [False] * 4),
    ],
)
def test_stages_of_torchvisions_networks_are_found_by_their_strides(
    build, channels: list[int], rectified: list[bool]
) -> None:
    network = build()
    reader = find_reader(network, (), 64)
    maps = probe(network, reader, 64)
    assert [m.shape[1] for m in maps] == channels
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2]
    assert reader.rectified(network) == rectified


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("hrnet_w18_small", [(128, 16, 16), (256, 8, 8), (512, 4, 4), (2048, 2, 2)]),
        ("selecsls42", [(1024, 2, 2)]),
    ],
)
def test_stages_that_timm_names_wrongly_are_found_by_the_next_rule(
    name: str, shapes: list[tuple[int, ...]]
) -> None:
    network = timm.create_model(name, num_classes=0)
    maps = probe(network, find_reader(network, (), 64), 64)
    assert [m.shape[1:] for m in maps] == shapes


def test_a_network_that_timm_describes_wrongly_and_no_rule_finds_is_refused_as_such() -> None:
    network = timm.create_model("twins_pcpvt_small", num_classes=0)
    with pytest.raises(ValueError, match=r"^Twins: no rule finds its taps; name them with --taps"):
        find_reader(network)


@pytest.mark.parametrize(
    ("build", "size", "overrides", "layout"),
    [
        (swin_t, 384, [], "channels_last"),
        (swin_t, 384, ["early=features.1.0"], "channels_last"),
        (convnext_tiny, 384, [], "map"),
        (resnet18, 256, ["early=maxpool"], "map"),
        (
            partial(timm.create_model, "swin_tiny_patch4_window7_224", img_size=384),
            384,
            [],
            "channels_last",
        ),
        (partial(timm.create_model, "swinv2_cr_tiny_384"), 384, [], "map"),
    ],
)
def test_channels_are_told_where_they_are_as_many_as_rows_and_columns(
    build, size: int, overrides: list[str], layout: str
) -> None:
    tap = find_reader(build(), overrides, size).taps[0]
    assert tap.layout == layout


class OneSize(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[2] == 32, "32 pixels alone"
        return super().forward(x)


def test_channels_that_nothing_tells_are_refused() -> None:
    network = OneSize(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 8, 2, 2))
    with pytest.raises(ValueError, match=r"taps: 0: at 32 pixels .* tap another module"):
        find_reader(network, ["a=0"], 32)
    assert find_reader(network, ["a=0", "b=1"], 32).taps[0].layout == "map"


def test_torchvisions_vit_gives_its_patches() -> None:
    network = vit_b_32(image_size=64)
    reader = find_reader(network, (), 64)
    assert [tuple(m.shape) for m in probe(network, reader, 64)] == [(2, 768, 2, 2)]


def test_tokens_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="got 12 of which 1 come before the patches"):
        as_map(torch.rand(1, 12, 3), "tokens", 1)
