"""Replicas of DataParallel share their original's hooks and run at the same time in threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import nn

from mgd_ssl.builder import MGDistiller, mgd_update
from mgd_ssl.models import create_backbone, find_taps

REPEATS = 40


def replicate(network):
    """A replica as torch.nn.parallel.replicate links it, with the original's tensors."""
    modules = list(network.modules())
    copies = {module: module._replicate_for_data_parallel() for module in modules}
    for module, copy in copies.items():
        for name, child in module._modules.items():
            setattr(copy, name, copies[child])
        for name, parameter in module._parameters.items():
            object.__setattr__(copy, name, parameter)
    return copies[network]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_backbone("resnet18", width=0.125, stem="small", stem_stride=2).eval()


def in_threads(read, replicas, inputs):
    """Every replica reads its input ``REPEATS`` times, all beginning each pass together."""
    barrier = Barrier(len(replicas))

    def work(replica, x):
        found = []
        for _ in range(REPEATS):
            barrier.wait(timeout=30)
            found.append(read(replica, x))
        return found

    with ThreadPoolExecutor(len(replicas)) as pool:
        return list(pool.map(work, replicas, inputs))


def images(count):
    return [torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in count]


@torch.no_grad()
def read_maps(taps, network, x):
    return taps(network, x)[0]


def test_replicas_in_threads_read_the_maps_of_their_own_images(network):
    taps = find_taps(network, size=64)
    inputs = images(range(3))
    expected = [read_maps(taps, network, x) for x in inputs]
    replicas = [replicate(network) for _ in inputs]
    runs = in_threads(lambda replica, x: read_maps(taps, replica, x), replicas, inputs)
    for maps, found in zip(expected, runs, strict=True):
        for one in found:
            assert all(torch.equal(a, b) for a, b in zip(maps, one, strict=True))


def test_a_replicas_hooks_are_not_its_originals_but_its_originals_are_kept(network):
    taps = find_taps(network, size=64)
    calls = []
    module = network.get_submodule(taps.taps[0].module)
    module.register_forward_pre_hook(lambda *_: calls.append("the user's"))
    first, second = replicate(network), replicate(network)
    with taps.recording(first) as maps, torch.no_grad():
        second(images([0])[0]), network(images([0])[0])
        assert not maps
        first(images([0])[0])
        assert set(maps) == set(taps.names)
    assert calls == ["the user's"] * 6  # twice a block, three passes
    assert len(module._forward_pre_hooks) == 1


def test_the_contracts_module_may_be_replicated(network):
    torch.manual_seed(1)
    teacher = create_backbone("resnet18", width=0.25, stem="small", stem_stride=2)
    distiller = MGDistiller(teacher, network, with_kd=False)
    inputs = images(range(2))
    mgd_update(inputs, distiller)
    distiller.eval()
    expected = [distiller(x)[1] for x in inputs]
    runs = in_threads(
        lambda replica, x: replica(x)[1], [replicate(distiller) for _ in inputs], inputs
    )
    for loss, found in zip(expected, runs, strict=True):
        assert all(torch.equal(loss, one) for one in found)


def test_gradients_of_a_replica_reach_the_original(network):
    taps = find_taps(network, size=64)
    maps, _ = taps(replicate(network), images([0])[0])
    sum(m.sum() for m in maps).backward()
    assert isinstance(network.conv1, nn.Conv2d)
    assert network.conv1.weight.grad.abs().sum() > 0
