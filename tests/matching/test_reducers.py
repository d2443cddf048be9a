import pytest
import torch

from mgd_ssl.choices import usual_mode
from mgd_ssl.matching import (
    REDUCERS,
    assign_channels,
    gather_groups,
    gather_margin,
    group_mask,
)

SHAPE = (3, 5, 4, 6, 2)  # N, C_s, G, H, W
POOLING = ("amp", "sp", "sp_avg")


def random_groups(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator), -torch.rand(SHAPE[1:3], generator=generator)


def by_hand(name, members, margins):
    """One group (N, g, H, W) and its margins (g,) by the table of formulas."""
    if name == "amp":
        index = members.abs().argmax(1, keepdim=True)
        return members.gather(1, index)[:, 0], margins.mean()
    if name == "sp":
        return members.max(1).values, margins.max()
    return members.mean(1), margins.mean()


def padded(seed=0, fill=float("nan")):
    """Groups of 1 to G members at random places of their rows, ``fill`` elsewhere."""
    grouped, margin = random_groups(seed)
    mask = torch.rand(SHAPE[1:3], generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, seed % SHAPE[2]] = True
    pads = ~mask
    return grouped.masked_fill(pads[:, :, None, None], fill), margin.masked_fill(pads, fill), mask


def test_hand_figures(hand):
    grouped, margin = (
        gather_groups(hand.teacher, hand.groups),
        gather_margin(hand.margin, hand.groups),
    )
    target, target_margin = REDUCERS["amp"](grouped, margin)
    assert target.flatten(2).tolist() == [[[1, 1, 0, 1], [-1, 3, 4, 2]]]
    assert target_margin.tolist() == [-0.375, -1.5]
    target, target_margin = REDUCERS["sp"](grouped, margin)
    assert target.flatten(2)[0, 1].tolist() == [0, 3, 4, 2]
    assert target_margin.tolist() == [-0.25, -1]


@pytest.mark.parametrize("name", POOLING)
@pytest.mark.parametrize("seed", range(4))
def test_full_groups_follow_the_formula(name, seed):
    grouped, margin = random_groups(seed)
    target, target_margin = REDUCERS[name](grouped, margin)
    for c in range(SHAPE[1]):
        expected, expected_margin = by_hand(name, grouped[:, c], margin[c])
        torch.testing.assert_close(target[:, c], expected)
        torch.testing.assert_close(target_margin[c], expected_margin)


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), -float("inf"), 1e38, 0.0])
@pytest.mark.parametrize("name", POOLING)
@pytest.mark.parametrize("seed", range(4))
def test_padded_members_have_no_influence(name, seed, fill):
    grouped, margin, mask = padded(seed, fill)
    target, target_margin = REDUCERS[name](grouped, margin, mask)
    for c in range(SHAPE[1]):
        held = mask[c]
        expected, expected_margin = by_hand(name, grouped[:, c, held], margin[c, held])
        torch.testing.assert_close(target[:, c], expected)
        torch.testing.assert_close(target_margin[c], expected_margin)


@pytest.mark.parametrize("name", POOLING)
def test_inputs_are_left_as_they_were(name):
    grouped, margin, mask = padded(fill=7.0)
    copies = grouped.clone(), margin.clone(), mask.clone()
    REDUCERS[name](grouped, margin, mask)
    assert all(torch.equal(*pair) for pair in zip(copies, (grouped, margin, mask), strict=True))


@pytest.mark.parametrize("order", [(-2.0, 2.0, 1.0), (1.0, 2.0, -2.0)])
def test_amp_breaks_an_exact_tie_toward_the_positive(order):
    grouped = torch.tensor(order).view(1, 1, 3, 1, 1)
    assert REDUCERS["amp"](grouped, torch.zeros(1, 3))[0].item() == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_amp_in_half_precision_picks_a_member_exactly(dtype):
    grouped, margin = random_groups()
    grouped = grouped.to(dtype)
    target, _ = REDUCERS["amp"](grouped, margin)
    expected, _ = REDUCERS["amp"](grouped.float(), margin)
    assert target.dtype == dtype and torch.equal(target.float(), expected)


def test_sp_takes_its_kernel():
    grouped, margin = random_groups()
    average, _ = REDUCERS["sp"](grouped, margin, kernel="avg")
    assert torch.equal(average, REDUCERS["sp_avg"](grouped, margin)[0])
    with pytest.raises(ValueError, match="kernel 'min'"):
        REDUCERS["sp"](grouped, margin, kernel="min")


@pytest.mark.parametrize("pads", [False, True])
def test_rd_draws_map_and_margin_together(pads):
    _, _, mask = padded(fill=0.0)
    mask = mask if pads else None
    members = torch.arange(20.0).view(5, 4)
    grouped = members[None, :, :, None, None].expand(SHAPE)
    torch.manual_seed(1)
    target, margin = REDUCERS["rd"](grouped, -members, mask)
    assert target.shape == margin.shape == (3, 5, 6, 2)
    assert torch.equal(target, -margin)
    assert target.unique().numel() > 10


@pytest.mark.parametrize("pads", [False, True])
def test_rd_draws_every_member_equally_often_and_never_a_pad(pads):
    mask = torch.tensor([[True, False, True, True], [False, False, True, False]])
    mask = mask if pads else torch.ones_like(mask)
    grouped = torch.arange(4.0)[None, None, :, None, None].expand(100, 2, 4, 10, 10)
    torch.manual_seed(0)
    target, _ = REDUCERS["rd"](grouped, torch.zeros(2, 4), mask if pads else None)
    for c in range(2):
        share = torch.stack([(target[:, c] == g).float().mean() for g in range(4)])
        torch.testing.assert_close(share, mask[c] / mask[c].sum(), atol=0.02, rtol=0)
    assert len(target[0, 0].unique()) > 1 and len(target[:, 0, 0, 0].unique()) > 1


def test_rd_follows_the_global_generator():
    grouped, margin = random_groups()
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(REDUCERS["rd"](grouped, margin)[0])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_sm_is_the_one_matched_channel(hand):
    target, margin = REDUCERS["sm"](
        gather_groups(hand.teacher, hand.sparse), gather_margin(hand.margin, hand.sparse)
    )
    assert torch.equal(target, hand.teacher[:, [0, 3]])
    assert margin.tolist() == [-0.5, -2]


def test_sm_refuses_groups():
    with pytest.raises(ValueError, match="groups of 4 channels, expected 1"):
        REDUCERS["sm"](*random_groups())


def test_only_sm_needs_a_sparse_assignment():
    assert [name for name in REDUCERS if usual_mode(name) == "sparse"] == ["sm"]


def test_gathering_a_padded_assignment():
    teacher, margin = torch.randn(2, 7, 3, 4), -torch.rand(7)
    assignment = assign_channels(torch.rand(3, 7))
    grouped, grouped_margin = gather_groups(teacher, assignment), gather_margin(margin, assignment)
    mask = group_mask(assignment)
    assert mask.sum() == 7 and grouped.shape == (2, 3, 3, 3, 4)
    for c, g in mask.nonzero().tolist():
        assert torch.equal(grouped[:, c, g], teacher[:, assignment[c, g]])
        assert grouped_margin[c, g] == margin[assignment[c, g]]
