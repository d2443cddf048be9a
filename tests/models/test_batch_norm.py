"""Split batch norm is batch norm applied to each part of the batch apart."""

import copy

import pytest
import torch
from torch import nn

from mgd_ssl.models import create_backbone, split_batch_norms
from mgd_ssl.models.batch_norm import SplitBatchNorm2d

SPLITS = 4


def random_norm(channels=5):
    norm = nn.BatchNorm2d(channels).double()
    nn.init.uniform_(norm.weight, -1, 1)
    nn.init.uniform_(norm.bias, -1, 1)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return norm


def as_split(norm, splits=SPLITS):
    split = copy.deepcopy(norm)
    assert split_batch_norms(split, splits) == 0
    assert type(split) is SplitBatchNorm2d
    return split


def images(n=12, c=5, side=3):
    return torch.randn(n, c, side, side, dtype=torch.float64) * 3 + 1


def test_each_split_is_normalized_by_itself():
    norm = random_norm()
    split, x = as_split(norm), images()
    parts = [copy.deepcopy(norm) for _ in range(SPLITS)]
    got = split(x)
    for j, part in enumerate(parts):  # split j holds images j, j + splits, …
        torch.testing.assert_close(got[j::SPLITS], part(x[j::SPLITS]), rtol=1e-12, atol=1e-12)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(part, name) for part in parts]).mean(0)
        torch.testing.assert_close(getattr(split, name), mean, rtol=1e-12, atol=1e-12)
    assert split.num_batches_tracked == norm.num_batches_tracked + 1


def test_the_gradient_is_that_of_the_parts():
    norm = random_norm()
    split, x = as_split(norm), images().requires_grad_()
    y = x.detach().clone().requires_grad_()
    weight = images()
    (split(x) * weight).sum().backward()
    for j in range(SPLITS):
        (norm(y[j::SPLITS]) * weight[j::SPLITS]).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(split.weight.grad, norm.weight.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(split.bias.grad, norm.bias.grad, rtol=1e-10, atol=1e-10)


def test_in_eval_mode_it_is_plain_batch_norm():
    norm = random_norm().eval()
    split, x = as_split(norm), images(n=3)
    assert torch.equal(split(x), norm(x))
    assert torch.equal(split.running_mean, norm.running_mean)


def test_one_split_is_plain_batch_norm():
    norm = random_norm()
    split, x = as_split(norm, 1), images(n=3)
    assert torch.equal(split(x), norm(x))
    assert torch.equal(split.running_var, norm.running_var)


def test_the_memory_format_does_not_matter():
    split, x = as_split(random_norm()), images()
    other = copy.deepcopy(split)
    got = other(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, split(x), rtol=1e-12, atol=1e-12)


def test_a_batch_that_is_not_divisible_is_refused():
    split = as_split(random_norm())
    with pytest.raises(ValueError, match="got 6 images, expected a multiple of 4 splits"):
        split(images(n=6))


def test_a_network_keeps_its_keys_and_parameters():
    network = create_backbone("resnet18", width=0.125)
    before = dict(network.named_parameters())
    keys = list(network.state_dict())
    assert split_batch_norms(network, SPLITS) == 0
    assert list(network.state_dict()) == keys
    after = dict(network.named_parameters())
    assert all(after[name] is before[name] for name in before)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert all(type(m) is SplitBatchNorm2d and m.splits == SPLITS for m in norms)
    assert split_batch_norms(network, 2) == 0  # and again, with another number
    assert all(m.splits == 2 for m in norms)


def test_norms_of_other_classes_are_counted():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm1d(3), nn.SyncBatchNorm(4))
    assert split_batch_norms(network, SPLITS) == 2
    assert type(network[1]) is nn.BatchNorm1d
