"""Statistics of channels against torch's, in float64."""

import pytest
import torch

from mgd_ssl.matching import StatisticsAccumulator


def test_statistics_over_batches_are_those_of_all_values():
    torch.manual_seed(0)
    maps = torch.randn(10, 4, 3, 5) * torch.tensor([1.0, 5.0, 0.1, 2.0]).view(4, 1, 1) + 1
    sums = StatisticsAccumulator(4)
    for part in maps.split([3, 1, 6]):
        sums.update(part)
    found, values = sums.result(), maps.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.mean.double(), values.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.std.double(), values.std(1, correction=0), rtol=1e-4, atol=0)
    margins = torch.stack([v[v < 0].mean() if (v < 0).any() else v.new_zeros(()) for v in values])
    torch.testing.assert_close(found.margin.double(), margins, rtol=1e-4, atol=1e-6)


def test_a_constant_channel_is_divided_by_one_and_one_never_negative_has_no_margin():
    sums = StatisticsAccumulator(2)
    maps = torch.full((2, 2, 2, 2), 3.0)
    maps[:, 1] = torch.tensor([1.0, 2.0]).view(2, 1, 1)
    sums.update(maps)
    found = sums.result()
    assert found.std.tolist() == [1.0, 0.5] and found.margin.tolist() == [0.0, 0.0]


def test_a_deviation_far_below_the_mean_is_found():
    torch.manual_seed(0)
    means = 10 * torch.randn(512)
    maps = means.view(-1, 1, 1) * (1 + 2e-4 * torch.randn(8, 512, 7, 7))
    maps[:, ::2] = means[::2].view(-1, 1, 1)  # constant
    sums = StatisticsAccumulator(512)
    for part in maps.split(4):
        sums.update(part)
    found = sums.result().std.double()
    assert (found[::2] == 1).all()
    expected = maps.double().transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(found[1::2], expected[1::2], rtol=1e-2, atol=0)


def test_values_that_are_not_finite_and_no_values_at_all_are_refused():
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        StatisticsAccumulator(1).update(torch.full((1, 1, 1, 1), torch.nan))
    with pytest.raises(ValueError, match="got no images"):
        StatisticsAccumulator(1).result()
