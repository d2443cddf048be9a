import pytest
import torch
from torch.nn import functional as F

from mgd_ssl.matching import CostAccumulator, channel_cost, cost


def oracle(student, teacher):
    """D[s,t] = (1/N) Σ_n (2 − 2⟨ŝ_ns, t̂_nt⟩), in float64."""
    s = F.normalize(student.double().flatten(2), dim=2, eps=1e-12)
    t = F.normalize(teacher.double().flatten(2), dim=2, eps=1e-12)
    return (2 - 2 * torch.einsum("nsp,ntp->nst", s, t)).mean(0)


def features(n=5, c_s=3, c_t=7, h=4, w=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, c_s, h, w, generator=generator),
        torch.randn(n, c_t, h, w, generator=generator),
    )


def test_hand_figures(hand):
    expected = torch.tensor([[0.102633, 0.735089, 2, 2], [2, 1, 2, 0.020101]]).double()
    torch.testing.assert_close(
        channel_cost(hand.student, hand.teacher), expected, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("seed", range(8))
def test_is_the_formula_at_random_sizes(seed):
    sizes = torch.randint(1, 9, (5,), generator=torch.Generator().manual_seed(seed)).tolist()
    student, teacher = features(*sizes, seed=seed)
    expected = oracle(student, teacher)
    torch.testing.assert_close(channel_cost(student, teacher), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 500, 10**9])
def test_chunks_of_images_change_nothing(chunk, monkeypatch):
    monkeypatch.setattr(cost, "CPU_CHUNK", chunk)
    student, teacher = features()
    expected = oracle(student, teacher)
    torch.testing.assert_close(channel_cost(student, teacher), expected, atol=1e-6, rtol=0)


def test_streaming_uneven_batches_is_the_whole():
    student, teacher = features(n=7)
    stream = CostAccumulator(3, 7)
    for images in (slice(0, 1), slice(1, 5), slice(5, 5), slice(5, 7)):
        stream.update(student[images], teacher[images])
    assert stream.images.item() == 7 and stream.images.dtype == torch.int64
    expected = oracle(student, teacher)
    torch.testing.assert_close(stream.result(), expected, atol=1e-6, rtol=0)


def test_shards_summed_in_place_are_the_whole():
    student, teacher = features(n=6)
    shards = [CostAccumulator(3, 7), CostAccumulator(3, 7)]
    shards[0].update(student[:1], teacher[:1])
    shards[1].update(student[1:], teacher[1:])
    for mine, other in zip(shards[0].state(), shards[1].state(), strict=True):
        mine += other
    torch.testing.assert_close(shards[0].result(), oracle(student, teacher), atol=1e-6, rtol=0)


def test_a_channel_of_zeros_costs_2_in_its_image():
    student, teacher = features(n=2)
    student[0, 1] = 0
    alone = channel_cost(student[1:], teacher[1:])[1]
    torch.testing.assert_close(channel_cost(student, teacher)[1], (2 + alone) / 2)
    assert (channel_cost(student[:1], teacher[:1])[1] == 2).all()


def test_side_1_leaves_only_signs():
    student = torch.tensor([[[[3.0]], [[-0.1]]]])
    cost_of_signs = channel_cost(student, torch.tensor([[[[7.0]], [[-2.0]]]]))
    assert cost_of_signs.tolist() == [[0, 4], [4, 0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = (x.to(dtype) * 300 for x in features(h=16, w=16))  # squares overflow half
    expected = oracle(student, teacher)
    torch.testing.assert_close(channel_cost(student, teacher), expected, atol=1e-6, rtol=0)


def test_autocast_does_not_lower_the_precision():
    student, teacher = features()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = channel_cost(student, teacher)
    torch.testing.assert_close(got, oracle(student, teacher), atol=1e-6, rtol=0)


def test_channels_last_features_cost_the_same():
    student, teacher = features()
    got = channel_cost(*(x.to(memory_format=torch.channels_last) for x in (student, teacher)))
    torch.testing.assert_close(got, oracle(student, teacher), atol=1e-6, rtol=0)


def test_memory_does_not_grow_with_the_batch(new_tensors, monkeypatch):
    monkeypatch.setattr(cost, "CPU_CHUNK", 1000)
    stream = CostAccumulator(3, 7)
    student, teacher = features(n=200)
    with new_tensors:
        stream.update(student, teacher)
    assert max(new_tensors.elements) <= 1000 < student.numel()


def test_no_graph_is_kept():
    student, teacher = features()
    assert not channel_cost(student.requires_grad_(), teacher).requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("which", [0, 1])
def test_features_that_are_not_finite_are_refused_and_leave_the_sums(bad, which):
    stream = CostAccumulator(3, 7)
    stream.update(*features())
    before = stream.result()
    broken = features()
    broken[which][2, 1, 0, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        stream.update(*broken)
    assert torch.equal(stream.result(), before)


@pytest.mark.parametrize("shape", [(4, 7, 4, 6), (5, 7, 2, 3)])
def test_other_batch_or_side_is_refused(shape):
    with pytest.raises(ValueError, match="differ in batch or side"):
        channel_cost(features()[0], torch.randn(shape))


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="channels"):
        CostAccumulator(4, 7).update(*features())


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="0 images"):
        CostAccumulator(3, 7).result()
