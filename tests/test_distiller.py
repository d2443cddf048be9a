"""Maps in, named losses out: against the golden vectors, through a checkpoint, on two processes."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forked import run_ranks
from scipy.optimize import linear_sum_assignment
from torch import nn

import mgd_ssl.distiller
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.matching import channel_cost, matching_loss
from mgd_ssl.stages import Stage, plan_stages, read_margins

GOLDEN = np.load(Path(__file__).parent / "golden" / "mgd_reference.npz")
# case -> (stages, ignored, how the first implementation assigned)
CASES = {
    "divisible": (2, [], "balanced"),
    "equal": (1, [], "balanced"),
    "remainder": (2, [], "shave"),
    "ignored": (3, [0], "balanced"),
}


def golden(case, name, stages):
    return [torch.from_numpy(GOLDEN[f"{case}/{name}{i}"]) for i in range(stages)]


def golden_distiller(case, reducer, **options):
    """A distiller of a golden case, solved from its maps, and the maps."""
    count, ignore, mode = CASES[case]
    student, teacher = golden(case, "student", count), golden(case, "teacher", count)
    stages = plan_stages(teacher, student, [f"s{i}" for i in range(count)], ignore)
    norms = [nn.BatchNorm2d(t.shape[1]) for t in teacher]
    for i, norm in enumerate(norms):
        norm.weight.data = torch.from_numpy(GOLDEN[f"{case}/teacher_bn_weight{i}"])
        norm.bias.data = torch.from_numpy(GOLDEN[f"{case}/teacher_bn_bias{i}"])
    distiller = FeatureDistiller(
        stages,
        read_margins(norms, stages),
        reducer=reducer,
        **{
            "mode": "sparse" if reducer == "sm" else mode,
            "reduction": "sum",
            "scale": 1.0,
        }
        | options,
    )
    distiller.solve(distiller.costs([(student, teacher)]))
    return distiller, student, teacher


@pytest.mark.parametrize("reducer", ["amp", "sp", "sm"])
@pytest.mark.parametrize("case", CASES)
def test_losses_margins_and_groups_are_the_golden_ones(case, reducer):
    distiller, student, teacher = golden_distiller(case, reducer)
    losses = distiller(student, teacher)
    count = CASES[case][0]
    total = 0.0
    for stage in distiller.stages:
        i = stage.index
        margin = torch.from_numpy(GOLDEN[f"{case}/margin{i}"])
        torch.testing.assert_close(distiller.margin(stage), margin, rtol=0, atol=1e-5)
        groups = GOLDEN[f"{case}/{reducer}/groups{i}"].tolist()
        assert [set(g) for g in distiller.assignment(stage).tolist()] == [set(g) for g in groups]
        # Later stages weigh more, and an ignored stage counts among them.
        expected = GOLDEN[f"{case}/{reducer}/stage_loss{i}"] / 2 ** (count - 1 - i)
        assert losses[f"matching/s{i}"].item() == pytest.approx(expected, rel=1e-4)
        total += losses[f"matching/s{i}"].item()
    assert total == pytest.approx(GOLDEN[f"{case}/{reducer}/distillation_loss"], rel=1e-4)


def test_the_hand_vectors_with_the_adapter_left_out():
    student = torch.tensor([[2.0, 0, 0, 1], [0, 3, 3, 0]]).view(1, 2, 2, 2)
    teacher = torch.tensor([[1.0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 0, 2], [0, 3, 4, 0]])
    teacher, margin = teacher.view(1, 4, 2, 2), torch.tensor([-0.5, -0.25, -1, -2])
    stages = plan_stages([teacher], [student], ["a"])
    totals = {"amp": 2.857823, "sp": 2.857823, "sm": 0.122734}
    for reducer, loss in (("amp", 8.0), ("sp", 7.0), ("sm", 2.0)):
        distiller = FeatureDistiller(stages, [margin], reducer=reducer, reduction="sum", scale=1.0)
        distiller.adapters["a"] = nn.Identity()
        (result,) = distiller.solve([channel_cost(student, teacher)])
        assert result.total == pytest.approx(totals[reducer], abs=1e-5)
        assert distiller([student], [teacher])["matching/a"].item() == pytest.approx(loss)


@pytest.mark.parametrize("case", ["divisible", "ignored"])
def test_sums_are_divided_by_the_images_or_the_elements(case):
    distiller, student, teacher = golden_distiller(case, "amp")
    sums = distiller(student, teacher)
    image, _, _ = golden_distiller(case, "amp", reduction="image", scale=1e-4)
    element, _, _ = golden_distiller(case, "amp", reduction="element", scale=3.0)
    for stage in distiller.stages:
        key = f"matching/s{stage.index}"
        elements = student[stage.index].numel()
        images = student[stage.index].shape[0]
        assert image(student, teacher)[key].item() == pytest.approx(sums[key].item() / images / 1e4)
        got = element(student, teacher)[key].item()
        assert got == pytest.approx(3 * sums[key].item() / elements)


def test_a_stage_scale_of_your_own_replaces_the_halving():
    distiller, student, teacher = golden_distiller(
        "ignored", "amp", stage_scale=lambda i: (5.0, 7.0, 11.0)[i]
    )
    losses = distiller(student, teacher)
    for i, scale in ((1, 7.0), (2, 11.0)):
        expected = scale * GOLDEN[f"ignored/amp/stage_loss{i}"]
        assert losses[f"matching/s{i}"].item() == pytest.approx(expected, rel=1e-4)


def test_gradients_reach_the_student_and_the_adapters_alone():
    distiller, student, teacher = golden_distiller("divisible", "amp")
    student = [s.requires_grad_() for s in student]
    teacher = [t.requires_grad_() for t in teacher]
    sum(distiller(student, teacher).values()).backward()
    assert all(s.grad.abs().sum() > 0 for s in student)
    assert all(t.grad is None for t in teacher)
    assert all(p.grad is not None for p in distiller.parameters())
    names = {name for name, _ in distiller.named_parameters()}
    assert names == {f"adapters.s{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["balanced", None])
def test_a_stage_knows_without_a_look_at_the_device_whether_its_groups_are_full(
    case, mode, monkeypatch
):
    distiller, student, teacher = golden_distiller(case, "amp", **({"mode": mode} if mode else {}))
    full = []

    def note(student, teacher, assignment, *rest, **options):
        full.append((options["full"], bool((assignment >= 0).all())))
        return matching_loss(student, teacher, assignment, *rest, **options)

    monkeypatch.setattr(mgd_ssl.distiller, "matching_loss", note)
    distiller(student, teacher)
    assert full and all(said == found for said, found in full)


def test_an_ignored_stage_has_no_adapter_and_no_state():
    distiller, student, teacher = golden_distiller("ignored", "amp")
    assert not [key for key in distiller.state_dict() if "s0" in key]
    assert list(distiller.adapters) == ["s1", "s2"]
    assert list(distiller(student, teacher)) == ["matching/s1", "matching/s2"]
    student[0], teacher[0] = torch.full_like(student[0], torch.nan), torch.zeros(0)
    assert all(loss.isfinite() for loss in distiller(student, teacher).values())


@pytest.mark.parametrize("reducer", ["amp", "sp", "rd", "sm"])
def test_a_state_dict_carries_all_that_the_loss_depends_on(reducer, tmp_path):
    distiller, student, teacher = golden_distiller("remainder", reducer)
    with torch.no_grad():  # as after training: no value is the one of a new distiller
        for adapter in distiller.adapters.values():
            adapter.weight.uniform_(0.5, 1.5)
            adapter.bias.uniform_(-1, 1)
    distiller(student, teacher)  # moves the adapters' running statistics
    torch.save(distiller.state_dict(), tmp_path / "state.pt")
    options = {
        "reducer": reducer,
        "mode": distiller.grouping.mode,
        "reduction": "sum",
        "scale": 1.0,
    }
    blank = [torch.zeros(stage.teacher_channels) for stage in distiller.stages]
    fresh = FeatureDistiller(distiller.stages, blank, **options)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert fresh.solves == distiller.solves == 1
    for mode in (True, False):
        torch.manual_seed(1)
        expected = distiller.train(mode)(student, teacher)
        torch.manual_seed(1)
        got = fresh.train(mode)(student, teacher)
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[key], expected[key]) for key in got)


def test_a_solve_counts_changes_of_a_teacher_channel_that_serves_several():
    distiller = FeatureDistiller([Stage(0, "a", 4, 2)], [torch.zeros(2)], adapter="group")
    near = torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0]]).double()
    distiller.solve([near])
    (solved,) = distiller.solve([near[[1, 0, 2, 3]]])  # the first two change places
    assert (solved.assignment.flatten().tolist(), solved.changed) == ([1, 0, 0, 1], 2)


def test_a_matching_that_was_never_solved_is_refused():
    distiller, student, teacher = golden_distiller("divisible", "amp")
    margins = [distiller.margin(stage) for stage in distiller.stages]
    with pytest.raises(RuntimeError, match=r"the matching was not solved; call solve\(\)"):
        FeatureDistiller(distiller.stages, margins)(student, teacher)


def test_a_solve_counts_the_teacher_channels_that_changed_owner():
    stages = [Stage(0, "a", 2, 4)]
    distiller = FeatureDistiller(stages, [torch.zeros(4)])
    low, high = torch.tensor([0.0, 0, 1, 1]), torch.tensor([1.0, 1, 0, 0])
    (first,) = distiller.solve([torch.stack([low, high]).double()])
    assert (first.name, first.changed, first.total) == ("a", 0, 0.0)
    assert first.assignment.tolist() == [[0, 1], [2, 3]]
    (same,) = distiller.solve([torch.stack([low, high]).double()])
    assert same.changed == 0
    swapped = torch.tensor([[0.0, 1, 0, 1], [1, 0, 1, 0]])  # {0, 2}, {1, 3}: 1 and 2 move
    (second,) = distiller.solve([swapped.double()])
    assert second.changed == 2
    assert distiller.assignment(stages[0]).tolist() == [[0, 2], [1, 3]]
    assert first.assignment.tolist() == [[0, 1], [2, 3]]  # a record, not the buffer itself
    assert distiller.solves == 3


def test_margins_can_be_set_again():
    distiller, student, teacher = golden_distiller("divisible", "amp")
    before = distiller(student, teacher)
    distiller.set_margins([distiller.margin(s) * 0 for s in distiller.stages])
    assert all(distiller.margin(s).abs().max() == 0 for s in distiller.stages)
    # A silent target is now 0 and not below it: what is punished there shrinks from (s − m)² to s².
    assert all(distiller(student, teacher)[key] < before[key] for key in before)


def batches_of(maps, sizes):
    """Per batch the maps of a stage list, split along images."""
    return list(zip(*[m.split(sizes) for m in maps], strict=True))


def test_costs_over_batches_are_the_cost_of_the_whole():
    distiller, student, teacher = golden_distiller("ignored", "amp")
    student = [torch.cat([s, -s, s * s]) for s in student]  # six images
    teacher = [torch.cat([t, t, t * t]) for t in teacher]
    pairs = zip(batches_of(student, [1, 3, 2]), batches_of(teacher, [1, 3, 2]), strict=True)
    costs = distiller.costs(pairs)
    for stage, cost in zip(distiller.stages, costs, strict=True):
        whole = channel_cost(student[stage.index], teacher[stage.index])
        assert cost.dtype == torch.float64
        torch.testing.assert_close(cost, whole, rtol=0, atol=1e-6)
        assert cost.shape == (stage.student_channels, stage.teacher_channels)


def test_expanded_maps_are_matched_one_to_one_and_only_once():
    torch.manual_seed(0)
    stages = [Stage(0, "a", 2, 6, ignored=True), Stage(1, "b", 3, 6)]
    margin = -torch.rand(6)
    distiller = FeatureDistiller(stages, [margin], adapter="expand", reduction="element", scale=1.0)
    student = [torch.randn(4, 2, 5, 5), torch.randn(4, 3, 5, 5)]
    teacher = [torch.randn(4, 6, 5, 5), torch.randn(4, 6, 5, 5)]
    expansion = distiller.adapters["b"]
    expanded = expansion(student[1])
    (cost,) = distiller.costs([(student, teacher)])
    torch.testing.assert_close(cost, channel_cost(expanded.detach(), teacher[1]), rtol=0, atol=1e-6)
    assert not distiller.is_settled
    (result,) = distiller.solve([cost])
    rows, columns = linear_sum_assignment(cost.numpy())
    assert result.total == pytest.approx(cost.numpy()[rows, columns].sum())
    partner = distiller.assignment(stages[1])
    assert partner.shape == (6, 1) and sorted(partner.flatten().tolist()) == list(range(6))
    target = teacher[1][:, partner[:, 0]]
    tau = torch.maximum(target, margin[partner[:, 0]][:, None, None])
    error = (expanded - tau).square() * ((expanded > tau) | (tau > 0))
    loss = distiller(student, teacher)["matching/b"]
    torch.testing.assert_close(loss, error.mean())
    wanted = torch.autograd.grad(error.mean(), expansion.weight, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, expansion.weight)[0], wanted)
    assert distiller.is_settled


def test_costs_of_batches_solve_as_the_whole_does():
    distiller, student, teacher = golden_distiller("divisible", "amp")
    expected = [distiller.assignment(stage).clone() for stage in distiller.stages]
    fresh = copy.deepcopy(distiller)
    for stage in fresh.stages:
        fresh.assignment(stage).fill_(-1)
    pairs = (([s[i] for s in student], [t[i] for t in teacher]) for i in ([0, 1], [2]))
    results = fresh.solve(fresh.costs(pairs))
    assert [result.name for result in results] == ["s0", "s1"]
    for stage, assignment in zip(fresh.stages, expected, strict=True):
        assert torch.equal(fresh.assignment(stage), assignment)
    assert fresh.solves == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reducer": "mean"}, "reducer: got 'mean', expected one of amp, sp"),
        ({"adapter": "layer"}, "adapter: got 'layer', expected one of batch, group, expand"),
        ({"reduction": "mean"}, "reduction: got 'mean', expected 'sum', 'image' or 'element'"),
        ({"reducer": "sm", "mode": "balanced"}, "mode: got 'balanced' with reducer 'sm'"),
    ],
)
def test_an_option_that_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureDistiller([Stage(0, "a", 2, 4)], [torch.zeros(4)], **options)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (256, 32), (32, 16), (48, 8), (8, 4)])
def test_adapters_of_detectors_have_32_groups_of_two_channels_or_more(channels, groups):
    stages = [Stage(0, "a", channels, channels)]
    distiller = FeatureDistiller(stages, [torch.zeros(channels)], adapter="group")
    adapter = distiller.adapters["a"]
    assert isinstance(adapter, nn.GroupNorm)
    assert (adapter.num_groups, adapter.num_channels) == (groups, channels)


def test_calibrated_stages_begin_at_the_same_loss_and_come_back_from_a_checkpoint():
    stages = [Stage(0, "a", 4, 8), Stage(1, "b", 2, 4, ignored=True), Stage(2, "c", 8, 8)]
    margins = [torch.zeros(8), torch.zeros(8)]
    distiller = FeatureDistiller(stages, margins, adapter="group", reduction="element")
    distiller.solve([torch.rand(4, 8).double(), torch.rand(8, 8).double()])
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for side in (3, 5):
        maps = [torch.randn(1, c, side, side, generator=generator) for c in (4, 2, 8, 8, 4, 8)]
        pairs.append((maps[:3], [10 * m for m in maps[3:]]))
    distiller.calibrate(pairs, start=0.03)
    means = {n: sum(float(distiller(*p)[n]) for p in pairs) / 2 for n in distiller(*pairs[0])}
    assert means == pytest.approx({"matching/a": 0.03, "matching/c": 0.03}, rel=1e-5)
    again = FeatureDistiller(stages, margins, adapter="group", reduction="element")
    again.load_state_dict(distiller.state_dict())
    assert again.scales == distiller.scales and again.scales[0] != again.scales[1]


def test_a_stage_with_a_borrowed_map_begins_at_a_thirtieth():
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(2, 8, 4, 4, generator=generator)]
    student = [torch.randn(2, 4, side, side, generator=generator) for side in (8, 4)]
    stages = plan_stages(teacher, student, ["a", "b"])
    distiller = FeatureDistiller(stages, [torch.zeros(8)] * 2, adapter="group", reduction="element")
    distiller.solve([torch.rand(4, 8).double()] * 2)
    distiller.calibrate([(student, teacher)], start=30)
    losses = {name: float(loss) for name, loss in distiller(student, teacher).items()}
    assert losses == pytest.approx({"matching/a": 1.0, "matching/b": 1.0}, rel=1e-5)


def test_one_map_of_a_student_that_meets_several_of_its_teacher_is_not_borrowed():
    teacher = [torch.zeros(2, 8, side, side) for side in (8, 4)]
    assert [s.borrowed for s in plan_stages(teacher, [torch.zeros(2, 4, 4, 4)], ["a"])] == [False]


def test_a_stage_that_alone_meets_its_map_is_not_borrowed():
    teacher, student = ([torch.zeros(2, 8, n, n) for n in sides] for sides in ((8, 4), (16, 8, 4)))
    stages = plan_stages(teacher, student, ["a", "b", "c"])
    assert [(s.teacher_index, s.borrowed) for s in stages] == [(0, True), (0, True), (1, False)]


def test_a_stage_without_loss_cannot_be_calibrated():
    distiller = FeatureDistiller([Stage(0, "a", 2, 2)], [torch.zeros(2)], adapter="group")
    distiller.solve([torch.rand(2, 2).double()])
    nothing, own = [torch.zeros(1, 2, 2, 2)], distiller.scales
    assert own != [1.0]
    with pytest.raises(
        ValueError, match=r"stage a: its loss is 0\.0 over 1 batches, expected above"
    ):
        distiller.calibrate([(nothing, nothing)], start=3)
    assert distiller.scales == own


def two_process_maps():
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(5, c, 3, 3, generator=generator) for c in (4, 6)]
    teacher = [torch.randn(5, c, 3, 3, generator=generator) for c in (12, 15)]
    return student, teacher


def solve_share(images):
    """Solve from some of the images; with a process group, each rank from its own."""
    student, teacher = two_process_maps()
    stages = plan_stages(teacher, student, ["a", "b"])
    distiller = FeatureDistiller(stages, [torch.zeros(12), torch.zeros(15)])
    pairs = [([s[i : i + 1] for s in student], [t[i : i + 1] for t in teacher]) for i in images]
    results = distiller.solve(distiller.costs(pairs))
    costs = [result.cost for result in results]
    return costs, [distiller.assignment(stage) for stage in stages]


def run_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    share = [0, 1, 2] if rank == 0 else [3, 4]  # unequal shares: images are counted, not batches
    torch.save(solve_share(share), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_find_the_matching_of_one(tmp_path):
    run_ranks(run_rank, tmp_path)
    costs, assignments = solve_share(range(5))
    for rank in range(2):
        got_costs, got_assignments = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for got, expected in zip(got_costs, costs, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
        for got, expected in zip(got_assignments, assignments, strict=True):
            assert torch.equal(got, expected)
