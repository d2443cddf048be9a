"""Decoding processes: how many, which signals they hear, the shared memory they need."""

import logging
import subprocess
import time
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from mgd_ssl import process
from mgd_ssl.data import ArraySource, loading, make_loader, workers
from mgd_ssl.data.batches import tensors
from mgd_ssl.data.workers import decoding_workers, workers_that_fit
from mgd_ssl.errors import WorkerError

MIB = 2**20


def loader_of(count=32, batch=4, **options):
    images = np.zeros((count, 8, 8, 3), dtype=np.uint8)
    return make_loader(ArraySource(images), 8, batch, workers=2, **options)


@pytest.mark.parametrize(
    ("asked", "cores", "processes", "expected"),
    [
        (8, 2, 1, 2),
        (8, 64, 1, 8),
        (8, 64, 16, 4),
        (20, 16, 1, 16),
        (3, 8, 1, 3),
        (0, 8, 1, 0),
    ],
)
def test_workers_are_at_most_the_cores(monkeypatch, asked, cores, processes, expected):
    monkeypatch.setattr(process, "cores", lambda: cores)
    monkeypatch.setattr(process, "local_processes", lambda: processes)
    assert decoding_workers(asked) == expected


def test_a_number_that_is_cut_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(process, "cores", lambda: 2)
    workers._say_cut.cache_clear()
    with caplog.at_level(logging.WARNING):
        decoding_workers(6)
        decoding_workers(6)
        decoding_workers(8)  # as many as are usual
    assert caplog.messages == ["workers: 2 instead of 6, one for each core of this process"]


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (850 * MIB, 8),  # (2 × 8 + 1) × 50
        (849 * MIB, 7),
        (64 * MIB, 0),  # Docker's own
        (150 * MIB, 1),
    ],
)
def test_batches_in_flight_fit_into_shared_memory(caplog, free, expected):
    with caplog.at_level(logging.WARNING):
        assert workers_that_fit(8, 50 * MIB, 2, free) == expected
    assert len(caplog.messages) == (expected < 8)
    assert all("/dev/shm" in line and "-j" in line for line in caplog.messages)


def test_the_tensors_of_a_batch_are_found_in_whatever_holds_them():
    batch = ([torch.zeros(3, 2, dtype=torch.uint8)], {"boxes": torch.zeros(4)}, "name", 3)
    assert [t.nbytes for t in tensors(batch)] == [6, 16]
    loaded = tensors(next(iter(loader_of(train=False))))
    assert sum(t.nbytes for t in loaded) == 4 * (3 * 8 * 8 + 3 * 8)


def test_a_loader_that_has_no_room_for_workers_decodes_itself(monkeypatch):
    monkeypatch.setattr(loading, "free_shared_memory", lambda: 100.0)
    found = list(loader_of(train=False))
    assert len(found) == 8 and active_children() == []


def test_only_a_training_loader_keeps_its_workers():
    sleeping = loader_of(train=False)
    list(sleeping)
    assert active_children() == []
    training = loader_of(train=True)
    list(training)
    assert len(active_children()) == 2
    del training
    assert active_children() == []


def test_workers_leave_signals_to_their_parent():
    loader = loader_of(count=400, train=True)
    batches = iter(loader)
    next(batches)
    numbers = [str(worker.pid) for worker in active_children()]
    for name in ("-INT", "-TERM", "-INT"):  # by another process than their parent
        subprocess.run(["kill", name, *numbers], check=True)
    time.sleep(0.2)
    assert len(active_children()) == 2 and len(list(batches)) == 99
    children = active_children()
    for worker in children:
        worker.terminate()  # by the parent
        worker.join(5)
    assert [worker.exitcode for worker in children] == [0, 0]
    loader._iterator = None


class Unsendable:
    """A batch that cannot be handed over, as where shared memory is full."""

    def __reduce__(self):
        raise OSError(28, "No space left on device")


def test_a_batch_that_cannot_be_handed_over_is_an_error_and_no_endless_wait(monkeypatch):
    monkeypatch.setattr(loading.ImageDataset, "__getitems__", lambda *_: Unsendable())
    with pytest.raises(WorkerError, match=r"^workers: .*No space left.*/dev/shm.*-j, 0 for none$"):
        next(iter(loader_of(train=False)))
