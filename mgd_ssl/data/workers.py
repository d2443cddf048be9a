"""Decoding processes: how many, their signals, the shared memory that batches pass through."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import parent_process
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
from torch._utils import ExceptionWrapper

from mgd_ssl import process
from mgd_ssl.errors import WorkerError

logger = logging.getLogger(__name__)
SHARED_MEMORY = Path("/dev/shm")
MOST = 8
REMEDY = "give it more (docker run --shm-size=8g), or fewer decoding processes with -j, 0 for none"


def decoding_workers(asked: int) -> int:
    """Decoding processes of this process: at most its share of the cores, with a warning if cut.

    Args:
        asked: as many as are wanted; the usual eight are cut without a word.
    """
    share = max(1, process.cores() // process.local_processes())
    if asked > share and asked != MOST:
        _say_cut(asked, share)
    return min(asked, share)


@cache  # once, however many loaders a run has
def _say_cut(asked: int, share: int) -> None:
    logger.warning("workers: %d instead of %d, one for each core of this process", share, asked)


def workers_that_fit(workers: int, batch_bytes: int, prefetch: int, free: float) -> int:
    """Decoding processes whose batches fit into shared memory, with a warning if cut.

    Args:
        workers: as many as are wanted.
        batch_bytes: of one batch.
        prefetch: batches that each prepares ahead.
        free: bytes.
    """
    fit = int((free / max(batch_bytes, 1) - 1) // prefetch)  # the batch in use is there too
    if fit >= workers:
        return workers
    logger.warning(
        "workers: %d instead of %d: a batch takes %.0f MiB and %s has %.0f MiB free; %s",
        *(max(fit, 0), workers, batch_bytes / 2**20, SHARED_MEMORY, free / 2**20, REMEDY),
    )
    return max(fit, 0)


def free_shared_memory() -> float:
    """Bytes for each process of this machine; infinite where the system has no such place."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return float("inf")
    return status.f_bavail * status.f_frsize / process.local_processes()


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Inside, signals that ask to stop wait; processes that start inside never get them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, process.stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def initialize_worker(_: int) -> None:
    """Begin a decoding process: stopped by its parent alone, and never silent about a failure.

    Ctrl-C and a batch system's SIGTERM reach every process; the parent alone answers them.
    """
    torch.set_num_threads(1)
    process.keep_memory()
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_await_parent, daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _await_parent() -> None:
    """End on the SIGTERM that the parent sends, and on no other."""
    parent = parent_process()
    while parent:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent.pid:
            os._exit(0)


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    """Send why a batch could not be sent: the parent would wait for it for ever."""
    try:
        raise WorkerError(
            f"WorkerError: workers: a decoding process could not hand over a batch: {error}. "
            f"{SHARED_MEMORY} is what batches pass through: {REMEDY}"
        ) from error
    except WorkerError:
        sent = ExceptionWrapper(where="in a decoding process")
        queue.put((item[0], sent))
