"""A step of MoCo against the paper's algorithm, computed again in float64."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from forked import run_ranks
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.losses import MoCo, projection_head
from mgd_ssl.models import create_backbone
from mgd_ssl.objectives.moco import MoCo as Objective
from mgd_ssl.tasks.pretraining import Pretraining

DIM, QUEUE, BATCH, SIDE = 16, 12, 4, 32


def make_moco(**options):
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", width=0.125, stem="small", stem_stride=2)
    moco = MoCo(backbone, dim=DIM, **{"queue_size": QUEUE} | options)
    with torch.no_grad():  # the two encoders differ, as they do after the first steps
        for parameter in moco.encoder_k.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return moco


def images(seed):
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


class PlainMoCo:
    """The algorithm of the paper on one process, in float64; see `step`."""

    def __init__(self, moco):
        self.query, self.key = copy.deepcopy(moco.encoder_q), copy.deepcopy(moco.encoder_k)
        self.queue, self.pointer = moco.queue.double().clone(), int(moco.queue_ptr)
        self.momentum, self.temperature = moco.momentum, moco.temperature

    def step(self, query_images, key_images):
        q = F.normalize(self.query(query_images), dim=1)
        with torch.no_grad():
            pairs = zip(self.key.parameters(), self.query.parameters(), strict=True)
            for k_parameter, q_parameter in pairs:
                k_parameter.copy_(k_parameter * self.momentum + q_parameter * (1 - self.momentum))
            k = F.normalize(self.key(key_images), dim=1)
        losses = []
        for i in range(BATCH):
            positive = (q[i] * k[i]).sum() / self.temperature
            negatives = [q[i] @ column / self.temperature for column in self.queue.T]
            losses.append(torch.stack([positive, *negatives]).logsumexp(0) - positive)
        for row in k:  # only now: the keys of this step are no negatives of it
            self.queue = self.queue.clone()
            self.queue[:, self.pointer] = row
            self.pointer = (self.pointer + 1) % QUEUE
        return torch.stack(losses).mean()


@pytest.mark.parametrize("mlp", [False, True], ids=["v1", "v2"])
def test_steps_follow_the_papers_algorithm(mlp):
    moco = make_moco(momentum=0.9, temperature=0.2, mlp=mlp)
    # Encoders in float64: batch norms over four images would blow up float32's rounding.
    moco.encoder_q.double(), moco.encoder_k.double()
    plain = PlainMoCo(moco)
    optimizers = [
        torch.optim.SGD(encoder.parameters(), lr=0.03) for encoder in (moco.encoder_q, plain.query)
    ]
    for step in range(4):  # the queue holds three batches: the pointer comes round
        query, key = images(2 * step).double(), images(2 * step + 1).double()
        losses = moco(moco.encoder_q(query), key), plain.step(query, key)
        torch.testing.assert_close(losses[0].double(), losses[1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(moco.queue.double(), plain.queue, rtol=1e-4, atol=1e-5)
        assert int(moco.queue_ptr) == plain.pointer == (step + 1) * BATCH % QUEUE
        state, expected = moco.encoder_k.state_dict(), plain.key.state_dict()
        for name in state:
            torch.testing.assert_close(state[name], expected[name], rtol=1e-5, atol=1e-6, msg=name)
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_the_first_keys_are_not_among_the_negatives_of_their_own_step():
    moco = make_moco()
    before = moco.queue.clone()
    moco(moco.encoder_q(images(0)), images(1))
    assert not torch.equal(moco.queue[:, :BATCH], before[:, :BATCH])
    assert torch.equal(moco.queue[:, BATCH:], before[:, BATCH:])
    torch.testing.assert_close(moco.queue.norm(dim=0), torch.ones(QUEUE))


def test_the_state_has_the_names_of_facebookresearch_moco():
    v2 = set(make_moco().state_dict())
    assert {"queue", "queue_ptr"} < v2
    for encoder in ("encoder_q", "encoder_k"):
        head = {key for key in v2 if key.startswith(f"{encoder}.fc.")}
        assert head == {f"{encoder}.fc.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
        assert f"{encoder}.layer4.1.bn2.running_mean" in v2
    v1 = set(make_moco(mlp=False).state_dict())
    assert {key for key in v1 if ".fc." in key} == {
        f"encoder_{branch}.fc.{kind}" for branch in "qk" for kind in ("weight", "bias")
    }


def test_the_state_has_the_shapes_and_the_start_of_facebookresearch_moco():
    moco = MoCo(create_backbone("resnet18", width=0.125), dim=DIM, queue_size=QUEUE)
    assert moco.queue.shape == (DIM, QUEUE)
    assert moco.queue_ptr.shape == (1,) and moco.queue_ptr.dtype == torch.long
    torch.testing.assert_close(moco.queue.norm(dim=0), torch.ones(QUEUE))
    query, key = moco.encoder_q.state_dict(), moco.encoder_k.state_dict()
    assert all(torch.equal(query[name], key[name]) for name in query)
    assert moco.encoder_q.conv1.weight is not moco.encoder_k.conv1.weight


def test_heads_of_v1_and_v2():
    v1, v2 = projection_head(8, DIM, None), projection_head(8, DIM, 8)
    assert isinstance(v1, nn.Linear) and v1.weight.shape == (DIM, 8)
    assert [type(layer) for layer in v2] == [nn.Linear, nn.ReLU, nn.Linear]
    assert v2[0].weight.shape == (8, 8) and v2[2].weight.shape == (DIM, 8)


def test_gradients_reach_the_query_encoder_alone():
    moco = make_moco()
    moco(moco.encoder_q(images(0)), images(1)).backward()
    assert all(p.grad is not None for p in moco.encoder_q.parameters())
    assert all(p.grad is None and not p.requires_grad for p in moco.encoder_k.parameters())
    assert not moco.queue.requires_grad and moco.queue.grad_fn is None


def test_the_average_leaves_the_batch_norms_buffers_alone():
    moco = make_moco(momentum=0.5)
    moco.eval()  # no batch norm moves by itself
    before = copy.deepcopy(dict(moco.encoder_k.named_buffers()))
    moco.encoder_q.bn1.running_mean.fill_(7)
    old = moco.encoder_k.bn1.weight.detach().clone()
    moco(moco.encoder_q(images(0)), images(1))
    assert all(torch.equal(before[k], v) for k, v in moco.encoder_k.named_buffers())
    torch.testing.assert_close(moco.encoder_k.bn1.weight, (old + moco.encoder_q.bn1.weight) / 2)


def test_shuffling_gives_each_image_its_own_key():
    moco = make_moco(momentum=0.0)
    moco.eval()
    expected = F.normalize(moco.encoder_q(images(1)), dim=1)  # momentum 0: the same weights
    moco(moco.encoder_q(images(0)), images(1))
    torch.testing.assert_close(moco.queue[:, :BATCH].T, expected, rtol=1e-5, atol=1e-6)


def test_a_rank_gets_the_keys_of_its_own_images_back(monkeypatch):
    """Two ranks, played one after the other: this is rank 1, and rank 0's tensors are known."""
    moco = make_moco(momentum=0.0)
    moco.eval()
    theirs, mine = images(2), images(1)
    order = torch.randperm(2 * BATCH)
    embed = lambda x: F.normalize(moco.encoder_k(x), dim=1)  # noqa: E731
    everyone = torch.cat([theirs, mine])

    def all_gather(x):
        if x.shape == mine.shape:
            assert torch.equal(x, mine)
            return everyone
        return torch.cat([embed(everyone[order[:BATCH]]), x])

    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "all_gather", all_gather)
    monkeypatch.setattr(distributed, "broadcast", lambda x: order)
    with torch.no_grad():
        keys = moco._encode_keys(mine)
        torch.testing.assert_close(keys, embed(mine), rtol=1e-5, atol=1e-6)


def run_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    moco = make_moco(momentum=0.0, queue_size=4 * BATCH).eval()
    for step in range(3):  # the queue holds two global batches: the third overwrites the first
        moco(moco.encoder_q(images(0)), images(2 * step + rank))
    torch.save((moco.queue, moco.queue_ptr), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_queue_the_keys_of_both_in_the_order_of_their_ranks(tmp_path):
    run_ranks(run_rank, tmp_path)
    moco = make_moco(momentum=0.0, queue_size=4 * BATCH).eval()
    with torch.no_grad():
        batches = [images(seed) for seed in (4, 5, 2, 3)]  # of step 2, then of step 1
        expected = F.normalize(moco.encoder_q(torch.cat(batches)), dim=1).T
    for rank in range(2):
        queue, pointer = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(queue, expected, rtol=1e-5, atol=1e-6)
        assert pointer.tolist() == [2 * BATCH]


def test_autocast_keeps_the_loss_and_the_queue_in_float32():
    moco = make_moco()
    with torch.autocast("cpu", torch.bfloat16):
        loss = moco(moco.encoder_q(images(0)), images(1))
    assert loss.dtype == moco.queue.dtype == torch.float32
    torch.testing.assert_close(moco.queue.norm(dim=0), torch.ones(QUEUE))


@pytest.mark.parametrize("size", [10, 2])
def test_a_queue_that_the_batch_does_not_divide_is_refused(size):
    moco = MoCo(create_backbone("resnet18", width=0.125), dim=DIM, queue_size=size)
    message = f"queue: {size} keys are not divisible by the global batch of {BATCH} images"
    with pytest.raises(ValueError, match=message):
        moco(moco.encoder_q(images(0)), images(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum: got 1.0, expected 0 <= momentum < 1"),
        ({"temperature": 0.0}, "temperature: got 0.0, expected a number above 0"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_moco(**options)


def test_pretraining_without_a_teacher_is_plain_moco():
    moco = make_moco()
    other = copy.deepcopy(moco)
    task = Pretraining(moco.encoder_q, Objective(objective_weight=0.5), moco)
    losses = task(images(0), images(1))
    torch.manual_seed(0)
    expected = other(other.encoder_q(images(0)), images(1))
    assert list(losses) == ["contrastive"]
    torch.testing.assert_close(losses["contrastive"], 0.5 * expected)
