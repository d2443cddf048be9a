"""Class token and patch tokens of a network as its features."""

import re

import pytest
import timm
import torch
from torchvision.models import resnet18, vit_b_32

from mgd_ssl.models import TokenFeatures, create_backbone, find_features


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("vit_tiny_patch16_224", 1),
        ("vit_small_patch14_reg4_dinov2", 5),
        ("vit_small_patch16_dinov3_qkvb", 5),
    ],
)
def test_features_are_the_tokens_behind_the_final_norm(name: str, prefix: int) -> None:
    size = 48 if "patch16" in name else 56
    torch.manual_seed(0)
    network = create_backbone(f"timm/{name}", options={"depth": 2}).eval()
    images = torch.rand(3, 3, size, size)
    with torch.no_grad():
        tokens = network.forward_features(images)
        cls, mean = tokens[:, 0], tokens[:, prefix:].mean(dim=1)
        for features, expected in (("cls", cls), ("cls+patches", torch.cat([cls, mean], dim=1))):
            reader = find_features(network, features, size)
            assert reader is not None
            read = TokenFeatures(network, reader, size)
            torch.testing.assert_close(read(images), expected, rtol=1e-5, atol=1e-6)
            assert read.num_features == expected.shape[1]


def test_torchvisions_class_token_is_what_it_pools() -> None:
    torch.manual_seed(0)
    network = vit_b_32(image_size=64, num_classes=5).eval()
    network.heads = torch.nn.Identity()
    reader, images = find_features(network, "cls", 64), torch.rand(2, 3, 64, 64)
    assert reader is not None
    with torch.no_grad():
        read = TokenFeatures(network, reader, 64)(images)
        assert torch.equal(read, network(images)) and read.std() > 0


def test_pooled_features_are_the_networks_own() -> None:
    assert find_features(resnet18(), "pooled", 32) is None


@pytest.mark.parametrize("features", ["cls", "cls+patches"])
def test_a_network_without_a_class_token_is_refused_with_the_remedy(features: str) -> None:
    siglip = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, depth=1)
    for network, lacks in ((resnet18(), "no tokens"), (siglip, "no class token")):
        message = rf"got {re.escape(features)} for \w+, which has {lacks}, expected pooled; say"
        with pytest.raises(ValueError, match=message):
            find_features(network, features, 224)
