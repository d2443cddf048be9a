import pytest
import torch
from torch.nn import functional as F

from mgd_ssl.matching import (
    REDUCERS,
    assign_channels,
    gather_groups,
    gather_margin,
    group_mask,
    kd_loss,
    losses,
    matching_loss,
    partial_l2,
)

SIZES = [(2, 4, 8, 3, 3), (3, 5, 12, 4, 2), (1, 6, 6, 1, 1), (5, 3, 7, 2, 5)]  # N, C_s, C_t, H, W


def formula(student, target, margin):
    """Σ (s − τ)² · 1[s > τ or τ > 0], term by term in float64, differentiable."""
    margin = margin[:, None, None] if margin.ndim == 1 else margin
    tau = torch.maximum(target, margin).detach().double()
    counted = (student > tau) | (tau > 0)
    return ((student.double() - tau) ** 2 * counted).sum()


def maps(n=2, c_s=4, c_t=8, h=3, w=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(n, c_s, h, w, generator=generator).requires_grad_()
    teacher = torch.randn(n, c_t, h, w, generator=generator)
    margin = torch.randn(c_t, generator=generator) * 0.3
    assignment = assign_channels(torch.rand(c_s, c_t, generator=generator))
    return student, teacher, assignment, margin


def value_and_gradient(loss, student):
    (gradient,) = torch.autograd.grad(loss * 0.25, student)  # a weight, as training has
    return float(loss.detach()), gradient * 4


def reduced(teacher, assignment, margin, name):
    mask = group_mask(assignment)
    return REDUCERS[name](
        gather_groups(teacher, assignment), gather_margin(margin, assignment), mask
    )


def assert_same(got, student, expected):
    value, gradient = value_and_gradient(got, student)
    expected_value, expected_gradient = value_and_gradient(expected, student)
    assert value == pytest.approx(expected_value, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("amp", 8), ("sp", 7), ("sm", 2)])
def test_hand_figures(hand, name, expected):
    assignment = hand.sparse if name == "sm" else hand.groups
    assert matching_loss(hand.student, hand.teacher, assignment, hand.margin, name) == expected
    target, margin = reduced(hand.teacher, assignment, hand.margin, name)
    assert partial_l2(hand.student, target, margin) == expected


@pytest.mark.parametrize("block", [1, 40, 10**9])
@pytest.mark.parametrize("per_pixel", [False, True])
def test_partial_l2_is_the_formula(per_pixel, block, monkeypatch):
    monkeypatch.setattr(losses, "CPU_BLOCK", block)
    student, target, _, _ = maps(c_t=4)
    generator = torch.Generator().manual_seed(1)
    margin = torch.randn(target.shape if per_pixel else target.shape[1:2], generator=generator)
    loss = partial_l2(student, target, margin)
    assert loss.dtype == torch.float32 and loss.shape == ()
    assert_same(loss, student, formula(student, target, margin))


def test_the_edges_of_the_condition():
    target = torch.tensor([-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]).view(1, 1, 1, 6)
    student = torch.tensor([-2.0, 0.5, -1.0, 2.0, -3.0, 2.0]).view(1, 1, 1, 6).requires_grad_()
    value, gradient = value_and_gradient(partial_l2(student, target, -torch.ones(1)), student)
    assert gradient.flatten().tolist() == [0, 3, 0, 4, -8, 2]
    assert value == 1.5**2 + 2**2 + 4**2 + 1


@pytest.mark.parametrize("name", ["amp", "sp", "sp_avg", "rd"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("block", [1, 70, 10**9])
def test_matching_loss_is_gather_reduce_and_partial_l2(name, sizes, block, monkeypatch):
    monkeypatch.setattr(losses, "CPU_BLOCK", block)
    student, teacher, assignment, margin = maps(*sizes)
    torch.manual_seed(0)
    loss = matching_loss(student, teacher, assignment, margin, name)
    torch.manual_seed(0)
    target, target_margin = reduced(teacher, assignment, margin, name)
    assert_same(loss, student, formula(student, target, target_margin))


@pytest.mark.parametrize("name", ["amp", "sp", "sp_avg"])
def test_groups_that_are_known_to_be_full_need_no_mask(name, monkeypatch):
    student, teacher, assignment, margin = maps()
    masked = matching_loss(student, teacher, assignment, margin, name, full=False)
    monkeypatch.setattr(losses, "group_mask", None)  # not asked for
    assert matching_loss(student, teacher, assignment, margin, name, full=True) == masked


def test_sm_is_the_matched_channels():
    student, teacher, _, margin = maps()
    assignment = assign_channels(torch.rand(4, 8), "sparse")
    loss = matching_loss(student, teacher, assignment, margin, "sm")
    matched = assignment[:, 0]
    assert_same(loss, student, formula(student, teacher[:, matched], margin[matched]))


def test_the_gradient_reaches_the_student_alone():
    student, teacher, assignment, margin = maps()
    teacher.requires_grad_()
    margin.requires_grad_()
    matching_loss(student, teacher, assignment, margin).backward()
    partial_l2(student, teacher[:, :4], margin[:4]).backward()
    assert student.grad is not None and teacher.grad is None and margin.grad is None


def test_a_graph_that_is_kept_gives_the_same_gradient_again():
    student, *rest = maps()
    loss = matching_loss(student, *rest)
    first, second, third = (
        torch.autograd.grad(loss, student, retain_graph=keep)[0] for keep in (True, True, False)
    )
    assert torch.equal(first, second) and torch.equal(first, third)
    doubled = torch.autograd.grad(matching_loss(student, *rest) * 2, student)[0]
    assert torch.equal(doubled, first * 2)


def test_a_student_map_with_other_uses_gets_the_sum_of_its_gradients():
    student, *rest = maps()
    alone = torch.autograd.grad(matching_loss(student, *rest), student)[0]
    both = torch.autograd.grad(matching_loss(student, *rest) + student.sum(), student)[0]
    torch.testing.assert_close(both, alone + 1)


def test_without_gradients_the_value_is_the_same():
    student, *rest = maps()
    with torch.no_grad():
        quiet = matching_loss(student, *rest)
    assert not quiet.requires_grad and quiet == matching_loss(student, *rest)
    assert not matching_loss(student.detach(), *rest).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_computed_in_float32(dtype):
    student, teacher, assignment, margin = maps()
    half, teacher = (student * 100).detach().to(dtype).requires_grad_(), (teacher * 100).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = matching_loss(half, teacher, assignment, margin)
    target, target_margin = reduced(teacher.float(), assignment, margin, "amp")
    assert loss.dtype == torch.float32
    expected = formula(half, target, target_margin)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert half.grad.dtype == dtype
    (gradient,) = torch.autograd.grad(expected, half)
    torch.testing.assert_close(half.grad, gradient, rtol=1e-2, atol=1e-2)


def test_channels_last_maps_keep_their_layout():
    student, *rest = maps()
    expected = value_and_gradient(matching_loss(student, *rest), student)
    last = student.detach().to(memory_format=torch.channels_last).requires_grad_()
    rest[0] = rest[0].to(memory_format=torch.channels_last)
    value, gradient = value_and_gradient(matching_loss(last, *rest), last)
    assert value == pytest.approx(expected[0], rel=1e-6)
    assert torch.equal(gradient, expected[1])
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_compiled_code_around_it_gives_the_same():
    student, *rest = maps()

    def step(x):
        return matching_loss(x * 2, *rest) * 0.5 + partial_l2(x, rest[0][:, :4], rest[2][:4])

    expected = value_and_gradient(step(student), student)
    value, gradient = value_and_gradient(torch.compile(step, backend="aot_eager")(student), student)
    assert value == pytest.approx(expected[0], rel=1e-6)
    torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize("broken", ["student", "teacher"])
def test_nan_is_not_hidden(broken):
    student, teacher, assignment, margin = maps()
    with torch.no_grad():
        (student if broken == "student" else teacher)[0, 1, 0, 0] = float("nan")
    assert matching_loss(student, teacher, assignment, margin).isnan()


def test_nothing_larger_than_the_gradient_is_held_and_that_once(new_tensors, monkeypatch):
    monkeypatch.setattr(losses, "CPU_BLOCK", 100)
    student, *rest = maps(n=60)
    with new_tensors:
        matching_loss(student, *rest).backward()
    large = [n for n in new_tensors.elements if n > 1000]
    assert large == [student.numel()]


def test_an_empty_batch_costs_nothing():
    student, teacher, assignment, margin = maps(n=0)
    assert matching_loss(student, teacher, assignment, margin) == 0


def test_shapes_that_do_not_belong_together_are_refused():
    student, teacher, assignment, margin = maps()
    with pytest.raises(ValueError, match="differ in batch or side"):
        matching_loss(student, teacher[:1], assignment, margin)
    with pytest.raises(ValueError, match="differ in batch or side"):
        matching_loss(student, teacher[..., :2], assignment, margin)
    with pytest.raises(ValueError, match="an assignment of 3 rows"):
        matching_loss(student, teacher, assignment[:3], margin)
    with pytest.raises(ValueError, match="7 margins"):
        matching_loss(student, teacher, assignment, margin[:7])
    with pytest.raises(ValueError, match="partial L2"):
        partial_l2(student, teacher, margin)
    with pytest.raises(ValueError, match="partial L2"):
        partial_l2(student, teacher[:, :4], margin)


def test_an_unknown_reducer_is_refused_by_name():
    with pytest.raises(ValueError, match=r"reducer 'max', expected one of amp, sp"):
        matching_loss(*maps(), "max")


def test_kd_hand_figure():
    student, teacher = (
        torch.tensor([[3.0, 2, 1], [0, 1, 0]]),
        torch.tensor([[1.0, 2, 3], [0, 0, 3]]),
    )
    assert kd_loss(student, teacher, 1.5).item() == pytest.approx(1.337742, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 1.5, 4.0])
def test_kd_is_the_divergence_and_teaches_the_student_alone(temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 10, generator=generator) * 3 for _ in range(2))
    p, q = (F.softmax(x.double() / temperature, 1) for x in (teacher, student))
    expected = temperature**2 * (p * (p / q).log()).sum() / 6
    student.requires_grad_()
    teacher.requires_grad_()
    loss = kd_loss(student, teacher, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert teacher.grad is None and student.grad is not None


def test_kd_is_float32_for_half_precision_logits_under_autocast():
    student, teacher = torch.randn(2, 3), torch.randn(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = kd_loss(student.bfloat16(), teacher.bfloat16())
    expected = kd_loss(student.bfloat16().float(), teacher.bfloat16().float())
    assert loss.dtype == torch.float32 and loss == expected
