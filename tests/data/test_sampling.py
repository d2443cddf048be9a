import itertools

import pytest

from mgd_ssl.data import ResumableBatchSampler


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
