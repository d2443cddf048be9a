"""Each objective against its formula, written out in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgd_ssl.losses import SEED, CompRess, DisCo, MoCo, SimReg, SimSiam
from mgd_ssl.models import create_backbone
from mgd_ssl.objectives import OBJECTIVES, Step
from mgd_ssl.objectives.disco import DisCo as DisCoObjective

N, D, T, K = 6, 16, 10, 12


def rows(seed: int, width: int) -> Tensor:
    return torch.randn(N, width, generator=torch.Generator().manual_seed(seed))


def unit(x: Tensor) -> Tensor:
    return x.double() / x.double().norm(dim=1, keepdim=True)


def test_simreg_is_the_squared_distance_of_unit_vectors_through_four_layers() -> None:
    torch.manual_seed(0)
    objective = SimReg(D, T).eval()
    layers = [m for m in objective.head if isinstance(m, nn.Linear)]
    assert [m.out_features for m in layers] == [2 * D, D, 2 * D, T]
    student, teacher = rows(1, D), rows(2, T)
    norms = [m for m in objective.head if isinstance(m, nn.BatchNorm1d)]
    x = F.relu(norms[0](layers[0](student)))
    x = layers[1](x)
    x = layers[3](F.relu(norms[1](layers[2](x))))
    expected = (unit(x) - unit(teacher)).square().sum(1).mean()
    loss = objective(student, teacher)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert OBJECTIVES["simreg"].views == 1


def test_simregs_smaller_head_is_one_layer() -> None:
    torch.manual_seed(0)
    student, teacher = rows(1, D), rows(2, T)
    objective = SimReg(D, T, "linear")
    x = objective.head[0](student)
    expected = (unit(x) - unit(teacher)).square().sum(1).mean()
    loss = objective(student, teacher)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_simregs_head_at_the_papers_widths() -> None:
    layers = [m for m in SimReg(512, 2048).head if isinstance(m, nn.Linear)]
    assert [layers[0].in_features, *(m.out_features for m in layers)] == [
        512,
        1024,
        512,
        1024,
        2048,
    ]


def test_seed_is_a_cross_entropy_over_the_queue_and_the_teachers_own_embedding() -> None:
    torch.manual_seed(0)
    objective = SEED(D, T, K, temperature=0.2, teacher_temperature=0.05)
    student, teacher = rows(1, D), rows(2, T)
    queue = objective.queue.double().clone()
    s, t = unit(objective.head(student).detach()), unit(teacher)
    expected = 0.0
    for i in range(N):
        anchors = torch.cat([t[i : i + 1], queue.T])
        target = (anchors @ t[i] / 0.05).softmax(0)
        expected -= float((target * (anchors @ s[i] / 0.2).log_softmax(0)).sum()) / N
    loss = objective(student, teacher)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(objective.queue[:, :N].T.double(), t, rtol=1e-5, atol=1e-6)
    assert torch.equal(objective.queue[:, N:].double(), queue[:, N:])


def test_compress_is_the_divergence_of_similarities_to_the_bank() -> None:
    torch.manual_seed(0)
    objective = CompRess(D, T, K, temperature=0.1)
    student, teacher = rows(1, D), rows(2, T)
    s, t = unit(objective.head(student).detach()), unit(teacher)
    own = objective.queue.double()
    p = (t @ objective.queue.double() / 0.1).softmax(1)
    q = (s @ own / 0.1).softmax(1)
    expected = float((p * (p.log() - q.log())).sum() / N)
    loss = objective(student, teacher)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(objective.queue[:, :N].T.double(), t, rtol=1e-5, atol=1e-6)


def test_simsiam_is_the_symmetric_cosine_and_no_gradient_enters_the_targets() -> None:
    torch.manual_seed(0)
    objective = SimSiam(D, dim=8)
    first, second = rows(1, D).requires_grad_(), rows(2, D).requires_grad_()
    loss = objective(first, second)
    z1, z2 = objective.projector(first), objective.projector(second)
    p1, p2 = objective.predictor(z1), objective.predictor(z2)
    expected = -(F.cosine_similarity(p1, z2.detach()) + F.cosine_similarity(p2, z1.detach())) / 2
    assert float(loss) == pytest.approx(float(expected.mean()), rel=1e-5)
    got = torch.autograd.grad(loss, [first, second])
    wanted = torch.autograd.grad(expected.mean(), [first, second])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert -1 <= float(loss) <= 1


def test_disco_is_moco_and_the_distances_of_both_views() -> None:
    torch.manual_seed(0)
    options = {"queue_size": 2 * N, "momentum": 0.0, "temperature": 0.2}
    disco = DisCo(create_backbone("resnet18", width=0.125), T, hidden=24, **options)
    moco = MoCo(create_backbone("resnet18", width=0.125), dim=T, hidden=24, **options)
    moco.load_state_dict(disco.state_dict())
    disco.eval(), moco.eval()
    assert disco.encoder_q.fc[0].out_features == 24
    query, key = torch.rand(2, N, 3, 32, 32).unbind(0)
    teacher, teacher_key = rows(1, T), rows(2, T)
    output, second = disco.encoder_q(query), disco.encoder_q(key)
    given = Step(output, teacher, key, encode=disco.encoder_q, teach_key=lambda: teacher_key)
    torch.manual_seed(7)
    losses = DisCoObjective(disco_weight=0.5).losses(disco, given)
    torch.manual_seed(7)
    expected = moco(moco.encoder_q(query), key)
    torch.testing.assert_close(losses["contrastive"], expected)
    distances = [(unit(a) - unit(b)).square().sum(1).mean() for a, b in (
        (output, teacher), (second, teacher_key))]  # fmt: skip
    assert float(losses["embedding"]) == pytest.approx(0.5 * float(sum(distances)), rel=1e-5)


@pytest.mark.parametrize("make", [lambda: SEED(D, T, 10), lambda: CompRess(D, T, 10)])
def test_a_queue_that_the_batch_does_not_divide_is_refused(make) -> None:
    with pytest.raises(ValueError, match=f"queue: 10 keys are not divisible by .* of {N} images"):
        make()(rows(1, D), rows(2, T))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="dim: got 6, expected a multiple of 4"):
        SimSiam(D, dim=6)


@pytest.mark.parametrize("make", [lambda: SimReg(D, T), lambda: SEED(D, T, K)])
def test_under_autocast_the_loss_is_float32_and_near_its_value(make) -> None:
    torch.manual_seed(0)
    objective = make().eval()
    torch.manual_seed(0)
    other = make().eval()
    given = rows(1, D), rows(2, T)
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(*given)
    full = other(*given)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)
