import itertools

import numpy as np
import pytest

from mgd_ssl.data import ArraySource, ResumableBatchSampler, make_loader
from mgd_ssl.data.sampling import Blocks, shuffled


def batches(*args, position=(0, 0), **kwargs) -> list[list[int]]:
    sampler = ResumableBatchSampler(*args, **kwargs)
    sampler.set_position(*position)
    return list(sampler)


def flat(lists) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def test_training_order_is_a_shuffle_without_the_last_partial_batch():
    got = batches(23, 5, train=True, seed=1)
    assert [len(batch) for batch in got] == [5] * 4
    assert len(set(flat(got))) == 20 and flat(got) != sorted(flat(got))


def test_training_order_depends_on_seed_and_epoch_alone():
    first = batches(64, 8, train=True, seed=1, position=(3, 0))
    assert first == batches(64, 8, train=True, seed=1, position=(3, 0))
    assert first != batches(64, 8, train=True, seed=1, position=(4, 0))
    assert first != batches(64, 8, train=True, seed=2, position=(3, 0))


@pytest.mark.parametrize("train", [True, False])
def test_starting_in_the_middle_continues_the_uninterrupted_order(train):
    whole = batches(61, 7, train=train, seed=5, position=(2, 0))
    for start in range(len(whole) + 1):
        assert batches(61, 7, train=train, seed=5, position=(2, start)) == whole[start:]


def test_length_is_of_the_whole_epoch_wherever_it_starts():
    sampler = ResumableBatchSampler(61, 7, train=True)
    sampler.set_position(0, 5)
    assert len(sampler) == 8 and len(list(sampler)) == 3


def test_training_shards_are_disjoint_and_make_up_the_global_batch():
    shards = [batches(64, 4, train=True, seed=9, rank=r, world_size=4) for r in range(4)]
    assert {len(shard) for shard in shards} == {4}
    assert sorted(flat(flat(shards))) == list(range(64))
    one = batches(64, 16, train=True, seed=9)
    assert [flat(step) for step in zip(*shards, strict=True)] == one


def test_evaluation_keeps_the_order_and_drops_nothing():
    assert batches(10, 4, train=False) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_evaluation_shards_are_disjoint_and_cover_everything():
    shards = [flat(batches(11, 2, train=False, rank=r, world_size=3)) for r in range(3)]
    assert all(shard == sorted(shard) for shard in shards)
    assert sorted(flat(shards)) == list(range(11))


def test_batch_larger_than_the_data_set_is_refused():
    with pytest.raises(ValueError, match=r"batch size 8 on 2 process\(es\) with 15 images"):
        ResumableBatchSampler(15, 8, train=True, world_size=2)


@pytest.mark.parametrize(("length", "size"), [(10, 0), (0, 4)])
def test_nothing_to_batch_is_refused(length, size):
    with pytest.raises(ValueError, match="at least 1 of each"):
        ResumableBatchSampler(length, size, train=False)


# blocks


@pytest.mark.parametrize(("length", "size", "mixed"), [(64, 8, 2), (61, 7, 3), (10, 20, 4)])
def test_blocks_give_each_image_once_and_few_blocks_at_a_time(length, size, mixed):
    order = shuffled(length, 1, 0, Blocks(size, mixed))
    assert sorted(order.tolist()) == list(range(length))
    position, seen = 0, set()
    while position < length:  # each run of images comes from blocks that came in no other
        run = set()
        while position < length and (len(run | {order[position] // size}) <= mixed):
            run.add(order[position] // size)
            position += 1
        assert not run & seen
        seen |= run
    assert order.tolist() != list(range(length))


def test_the_order_of_blocks_depends_on_seed_and_epoch_alone():
    blocks = Blocks(8, 2)
    first = shuffled(100, 3, 5, blocks).tolist()
    assert first == shuffled(100, 3, 5, blocks).tolist()
    assert len({tuple(shuffled(100, s, e, blocks)) for s, e in ((3, 5), (3, 6), (4, 5))}) == 3


def test_without_blocks_the_order_is_the_permutation_of_seed_and_epoch():
    expected = np.random.default_rng([7, 2]).permutation(50).tolist()
    assert shuffled(50, 7, 2).tolist() == expected
    assert flat(batches(50, 5, train=True, seed=7, position=(2, 0))) == expected


@pytest.mark.parametrize("blocks", [None, Blocks(37, 16)])
def test_shards_on_many_processes_give_each_image_once(blocks):
    """100 shards of 37 images, 64 processes; what does not fill the last step is left out."""
    length, ranks, size = 100 * 37, 64, 3
    shares = [
        flat(batches(length, size, train=True, seed=1, rank=r, world_size=ranks, blocks=blocks))
        for r in range(ranks)
    ]
    assert {len(share) for share in shares} == {length // (ranks * size) * size}
    counts = np.bincount(flat(shares), minlength=length)
    assert counts.max() == 1 and counts.sum() == length - length % (ranks * size)


def test_a_loader_that_shuffles_by_blocks_continues_where_it_was():
    source = ArraySource(np.zeros((60, 4, 4), np.uint8))
    loader = make_loader(source, 4, 5, train=True, seed=2, blocks=Blocks(10, 2))
    whole = [batch.indices.tolist() for batch in loader]
    loader.set_position(0, 7)
    assert [batch.indices.tolist() for batch in loader] == whole[7:]
    assert (
        sorted(flat(whole)[:20]) != list(range(20))
        and len({i // 10 for i in flat(whole)[:20]}) == 2
    )


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0)])
def test_blocks_of_nothing_are_refused(numbers):
    with pytest.raises(ValueError, match="at least 1 of each"):
        Blocks(*numbers)
