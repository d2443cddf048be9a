"""The contract of the first implementation, against its own figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from mgd_ssl.builder import MGDistiller, SMDistiller, mgd_update
from mgd_ssl.matching import kd_loss
from mgd_ssl.models import create_backbone

FOLDER = Path(__file__).parent / "golden"
GOLDEN = np.load(FOLDER / "mgd_reference.npz")
CASES = json.loads((FOLDER / "mgd_reference.json").read_text())


class Recorded(nn.Module):
    """A network that offers the three functions and answers with recorded maps."""

    def __init__(self, case: str, who: str) -> None:
        super().__init__()
        self.channels = CASES[case][f"{who}_channels"]
        self.maps = [tensor(f"{case}/{who}{i}") for i in range(len(self.channels))]
        self.logits = tensor(f"{case}/{who}_logits")
        self.shift = nn.Parameter(torch.zeros(()))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in self.channels)
        for i, norm in enumerate(self.norms if who == "teacher" else ()):
            norm.weight.data = tensor(f"{case}/teacher_bn_weight{i}")
            norm.bias.data = tensor(f"{case}/teacher_bn_bias{i}")

    def extract_feature(self, x, preReLU=False):
        assert preReLU
        return [m + self.shift for m in self.maps], self.logits + self.shift

    def get_bn_before_relu(self):
        return list(self.norms)

    def get_channel_num(self):
        return self.channels


def tensor(name):
    return torch.from_numpy(GOLDEN[name])


def images(case):
    return torch.zeros(CASES[case]["batch"], 3, 8, 8)


def recorded(case, **options):
    ignore = CASES[case]["ignore"]
    return MGDistiller(
        Recorded(case, "teacher"), Recorded(case, "student"), ignore_inds=ignore, **options
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reducer", ["amp", "sp", "sm"])
def test_losses_are_those_of_the_first_implementation(case, reducer):
    mode = "shave" if case == "remainder" and reducer != "sm" else None
    network = recorded(case, reducer=reducer, mode=mode)
    mgd_update([images(case)], network)
    output, (loss, kd) = network(images(case))
    assert torch.equal(output, tensor(f"{case}/student_logits"))
    assert loss.item() == pytest.approx(GOLDEN[f"{case}/{reducer}/distillation_loss"], rel=1e-4)
    assert kd.item() == pytest.approx(GOLDEN[f"{case}/kd_loss"], rel=1e-4)


def test_the_defaults_are_those_of_the_contract():
    network = MGDistiller(Recorded("equal", "teacher"), Recorded("equal", "student"))
    mgd_update([images("equal")], network)
    _, losses = network(images("equal"))
    assert len(losses) == 2
    network.with_kd = False
    _, loss = network(images("equal"))
    assert loss.item() == pytest.approx(losses[0].item())


def test_sparse_matching_is_the_distiller_with_its_reducer():
    network = SMDistiller(Recorded("divisible", "teacher"), Recorded("divisible", "student"))
    mgd_update([images("divisible")], network)
    golden = GOLDEN["divisible/sm/distillation_loss"]
    assert network(images("divisible"))[1][0].item() == pytest.approx(golden, rel=1e-4)


def thin(width, seed):
    torch.manual_seed(seed)
    return create_backbone("resnet18", width=width, stem="small", stem_stride=2)


def test_any_network_is_tapped_and_the_teacher_stays_as_it_was():
    network = MGDistiller(thin(0.25, 0), thin(0.125, 1), with_kd=False)
    before = {k: v.clone() for k, v in network.t_net.state_dict().items()}
    batches = [(torch.randn(4, 3, 32, 32), torch.zeros(4)) for _ in range(2)]
    solved = mgd_update(iter(batches), network)
    assert [m.assignment.shape for m in solved] == [(8, 2), (16, 2), (32, 2), (64, 2)]
    network.train()
    _, loss = network(batches[0][0])
    loss.backward()
    after = network.t_net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in network.t_net.parameters())
    assert all(p.grad is not None for p in network.s_net.parameters())
    assert not network.t_net.training
    assert network.s_net.training


def test_data_parallel_and_a_state_dict_round_trip_give_the_same_loss():
    one = MGDistiller(thin(0.25, 0), thin(0.125, 1), with_kd=False)
    x = torch.randn(4, 3, 32, 32)
    mgd_update([{"images": x}], nn.DataParallel(one))
    other = MGDistiller(thin(0.25, 2), thin(0.125, 3), with_kd=False)
    other.load_state_dict(one.state_dict())
    one.eval(), other.eval()
    assert torch.equal(nn.DataParallel(one)(x)[1], other(x)[1])


def test_margins_are_read_again_when_the_matching_is_solved():
    network = MGDistiller(thin(0.25, 0), thin(0.125, 1), with_kd=False)
    network.t_net.network.layer1[-1].bn2.weight.data.fill_(3.0)
    mgd_update([torch.randn(2, 3, 32, 32)], network)
    margin = network.distiller.margin(network.distiller.stages[0])
    # N(0, 3²): −3·φ(0)/Φ(0)
    assert torch.allclose(margin, torch.full_like(margin, -3 * 0.7978845608))


def test_at_most_the_images_asked_for_are_used():
    network = MGDistiller(thin(0.25, 0), thin(0.125, 1), with_kd=False)
    x = torch.randn(6, 3, 32, 32)
    few = mgd_update([x[:4], x[4:]], network, max_images=5)
    torch.testing.assert_close(few[0].cost, mgd_update([x[:5]], network)[0].cost, atol=1e-5, rtol=0)


def test_a_detector_divides_each_stage_by_its_factor():
    teacher, student = thin(1.0, 0), thin(0.5, 1)
    network = MGDistiller(teacher, student, with_kd=False, det=True)
    x = torch.randn(2, 3, 32, 32)
    mgd_update([x], network)
    assert all(isinstance(a, nn.GroupNorm) for a in network.distiller.adapters.values())
    plain = MGDistiller(teacher, student, with_kd=False)
    plain.distiller.adapters = network.distiller.adapters
    mgd_update([x], plain)
    network.eval(), plain.eval()
    maps = network.s_net.extract_feature(x, preReLU=True)[0]
    targets = network.t_net.extract_feature(x, preReLU=True)[0]
    stages = [v.item() for v in plain.distiller(maps, targets).values()]
    sums = [v * 2 ** (3 - i) for i, v in enumerate(stages)]
    expected = sum(s / f for s, f in zip(sums, [5e7, 5e7, 5e6, 5e6], strict=True))
    assert network(x)[1].item() == pytest.approx(expected, rel=1e-5)


def test_synchronised_norms_are_those_of_the_adapters_alone():
    network = MGDistiller(thin(0.25, 0), thin(0.125, 1), sync_bn=True)
    assert all(isinstance(a, nn.SyncBatchNorm) for a in network.distiller.adapters.values())
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in network.s_net.modules())


def test_knowledge_distillation_is_of_the_logits():
    teacher, student = resnet18(num_classes=10), resnet18(num_classes=10)
    network = MGDistiller(teacher, student)
    x = torch.randn(2, 3, 64, 64)
    mgd_update([x], network)
    network.eval()
    output, (_, kd) = network(x)
    assert kd.item() == pytest.approx(kd_loss(output, teacher(x)).item(), rel=1e-5)


def test_a_forward_before_the_matching_names_the_remedy():
    network = MGDistiller(thin(0.25, 0), thin(0.125, 1))
    with pytest.raises(RuntimeError, match=r"mgd_update\(\), before the first step"):
        network(torch.randn(2, 3, 32, 32))


def test_other_modules_and_batches_are_refused():
    with pytest.raises(ValueError, match="got Linear, expected an MGDistiller"):
        mgd_update([torch.zeros(1, 3, 8, 8)], nn.Linear(1, 1))
    with pytest.raises(ValueError, match="got a batch of str, expected images"):
        mgd_update(["x"], MGDistiller(thin(0.25, 0), thin(0.125, 1)))
    with pytest.raises(ValueError, match="0 images"):
        mgd_update([], MGDistiller(thin(0.25, 0), thin(0.125, 1)))
