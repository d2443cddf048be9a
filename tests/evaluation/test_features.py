"""Features of a loader: what is kept, and how the network is left."""

import logging

import pytest
import torch
from torch import Tensor, nn

from mgd_ssl.data import Batch
from mgd_ssl.evaluation.features import collect_features
from mgd_ssl.models import pool


def batch(values: list[int], labels: list[int], indices: list[int], failed: list[int]) -> Batch:
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    return Batch(images, torch.tensor(labels), torch.tensor(indices), torch.tensor(failed))


LOADER = [
    batch([10, 20, 30], [0, 1, 2], [5, 6, 7], [-1, 2, -1]),
    batch([40], [-1], [8], [-1]),
]


def halve(images: Tensor) -> Tensor:
    return images.float() / 2


class Mean(nn.Module):
    """(N,3,H,W) -> (N,3), through a batch norm and a dropout that only eval mode leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3, eps=0.0), nn.Dropout(0.9)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.norm(images)).mean(dim=(2, 3))


def test_features_are_those_of_eval_mode_without_the_failed_rows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        found = collect_features(Mean(), LOADER, transform=halve, device="cpu")
    assert found.features.tolist() == [[5.0] * 3, [15.0] * 3, [20.0] * 3]
    assert found.features.dtype == torch.float32 and not found.features.requires_grad
    assert found.labels.tolist() == [0, 2, -1] and found.indices.tolist() == [5, 7, 8]
    assert found.failed == 1 and "1 of 4 images could not be decoded" in caplog.text


def test_the_network_is_left_as_it_was() -> None:
    network = Mean().train()
    network.norm.eval()  # a part that was frozen stays frozen
    before = {k: v.clone() for k, v in network.state_dict().items()}
    collect_features(network, LOADER, transform=halve, device="cpu")
    assert network.training and network.drop.training and not network.norm.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_the_mode_comes_back_after_an_error() -> None:
    network = Mean().train()
    with pytest.raises(ValueError, match="not finite"):
        collect_features(network, LOADER, transform=lambda x: x / 0.0 * 0, device="cpu")
    assert network.norm.training


def test_maps_are_pooled_by_their_mean() -> None:
    maps = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert pool(maps).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
    assert torch.equal(pool(maps[:, :, 0, 0]), maps[:, :, 0, 0])
    found = collect_features(nn.Identity(), LOADER, transform=halve, device="cpu").features
    assert found.tolist() == [[5.0] * 3, [15.0] * 3, [20.0] * 3]


def test_a_non_finite_feature_names_its_image() -> None:
    def spoil(images: Tensor) -> Tensor:
        return torch.where(images == 30, torch.nan, images.float())

    with pytest.raises(ValueError, match="first of which is image 7"):
        collect_features(Mean(), LOADER, transform=spoil, device="cpu")


def test_a_failed_image_may_be_anything() -> None:
    def spoil(images: Tensor) -> Tensor:
        return torch.where(images == 20, torch.nan, images.float())

    assert len(collect_features(Mean(), LOADER, transform=spoil, device="cpu").features) == 2 + 1


def test_no_image_and_no_feature_are_refused() -> None:
    nothing = [batch([1], [0], [0], [0])]
    with pytest.raises(ValueError, match=r"got no image \(1 could not be decoded\)"):
        collect_features(Mean(), nothing, transform=halve, device="cpu")
    with pytest.raises(ValueError, match=r"network output: got shape \(2, 3, 4\)"):
        pool(torch.zeros(2, 3, 4))
