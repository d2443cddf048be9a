import math

import pytest
import torch
from scipy.stats import norm as gaussian
from torch import nn

from mgd_ssl.matching import batchnorm_margin


def batchnorm(gamma, beta):
    norm = nn.BatchNorm2d(len(gamma))
    norm.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
    return norm


def oracle(gamma, beta):
    """The formula, a channel at a time, in float64 by SciPy."""
    sigma, mean = abs(gamma), beta
    if sigma == 0:
        return min(mean, 0.0)
    negative = gaussian.cdf(-mean / sigma)
    if negative > 0.001:
        return mean - sigma * gaussian.pdf(mean / sigma) / negative
    return -3 * sigma


def test_hand_figures():
    margin = batchnorm_margin(batchnorm(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 0.5])))
    assert margin.tolist() == pytest.approx([-0.797885, -1.427108], abs=1e-6)


def test_is_the_formula_over_a_wide_range():
    generator = torch.Generator().manual_seed(0)
    gamma = torch.randn(300, generator=generator) * 2
    beta = torch.randn(300, generator=generator) * 4
    gamma[:10] = 0
    margin = batchnorm_margin(batchnorm(gamma, beta))
    expected = [oracle(g, b) for g, b in zip(gamma.tolist(), beta.tolist(), strict=True)]
    assert margin.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert margin.dtype == torch.float32 and (margin <= 0).all()


def test_both_sides_of_the_tail():
    edge = -gaussian.ppf(0.001)
    margin = batchnorm_margin(batchnorm(torch.ones(2), torch.tensor([edge - 1e-3, edge + 1e-3])))
    assert margin[0] == pytest.approx(oracle(1.0, edge - 1e-3), abs=1e-4)
    assert margin[1] == -3


@pytest.mark.parametrize(("beta", "limit"), [(-0.5, -0.5), (0.0, 0.0), (0.5, 0.0)])
def test_sigma_zero_has_the_limit(beta, limit):
    assert batchnorm_margin(batchnorm(torch.zeros(1), torch.tensor([beta]))).item() == limit


def test_tiny_sigma_stays_finite():
    margin = batchnorm_margin(batchnorm(torch.full((3,), 1e-30), torch.tensor([-1.0, 0.0, 1.0])))
    assert margin.tolist() == pytest.approx([-1, 0, 0], abs=1e-6)


def test_without_affine_parameters_gamma_is_1_and_beta_0():
    margin = batchnorm_margin(nn.BatchNorm2d(3, affine=False))
    assert margin.tolist() == pytest.approx([-math.sqrt(2 / math.pi)] * 3, abs=1e-6)


def test_subclasses_and_half_precision_are_accepted():
    layers = pytest.importorskip("timm.layers")
    norm = layers.BatchNormAct2d(4).half()
    margin = batchnorm_margin(norm)
    assert margin.tolist() == pytest.approx([-0.797885] * 4, abs=1e-6)
    assert not margin.requires_grad
    assert batchnorm_margin(nn.SyncBatchNorm(2)).shape == (2,)
