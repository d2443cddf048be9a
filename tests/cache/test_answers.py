"""What is stored of a teacher's answers is what it said, within the precision of the store."""

import pytest
import torch

from mgd_ssl.cache.answers import Answers


def kept(*maps: torch.Tensor) -> Answers:
    return Answers.decode(Answers(maps, torch.zeros(len(maps[0]), 1)).encode())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_value_errs_by_a_sixteenth_of_itself_at_most_whatever_the_scale(scale: float) -> None:
    x = scale * torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    (got,) = kept(x).maps
    least = x.abs().amax(dim=(1, 2, 3), keepdim=True) * 2**-15  # of what has all its digits
    assert ((got - x).abs() <= x.abs().clamp(min=least) / 16).all()
    assert (got.sign() == x.sign()).float().mean() > 0.99


def test_the_largest_value_of_each_view_is_kept_as_it_is() -> None:
    x = torch.tensor([3.3, -7.7]).view(2, 1, 1, 1) * torch.ones(2, 2, 1, 1)
    torch.testing.assert_close(kept(x).maps[0], x)


def test_a_blank_map_stays_blank() -> None:
    assert not kept(torch.zeros(2, 3, 2, 2)).maps[0].any()


def test_the_output_is_rounded_to_half_precision() -> None:
    output = torch.randn(4, 9)
    got = Answers.decode(Answers([], output).encode())
    assert torch.equal(got.output, output.half().float()) and got.maps == []


def test_maps_keep_their_order_and_shapes_and_any_layout_in_memory() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, c, c, c) for c in range(1, 12)]
    maps[3] = maps[3].contiguous(memory_format=torch.channels_last)
    for got, x in zip(kept(*maps).maps, maps, strict=True):
        assert got.shape == x.shape and got.is_contiguous()
        torch.testing.assert_close(got, x, atol=0.01, rtol=1 / 16)
