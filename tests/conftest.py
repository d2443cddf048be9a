"""Every test runs on one thread, in float32, with an untouched log, and checks annotated shapes."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import mgd_ssl.commands  # says what must be said before torch loads

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")  # float32 also where bf16 is found

import pytest
import torch
from jaxtyping import install_import_hook

assert mgd_ssl.commands

install_import_hook(
    ["mgd_ssl.matching", "mgd_ssl.evaluation", "mgd_ssl.losses", "mgd_ssl.tasks"],
    "beartype.beartype",
)
torch.set_num_threads(1)
if hasattr(signal, "SIGHUP"):  # nohup ignores it, for all that it starts
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _no_bf16_on_gpus() -> Iterator[None]:
    """Oracles are in float32, whatever the device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mgd_ssl.training.precision._gpu_has_bf16", lambda: False)
        yield


@pytest.fixture(autouse=True)
def _untouched_log() -> None:
    """What a command of an earlier test made of the log is undone: caplog hears each line once."""
    log = logging.getLogger("mgd_ssl")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny teacher, for every test of a command."""
    from tiny_runs import write_teacher  # the shapes of what it imports are checked too

    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pth.tar")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes stay out of test names: a zip file's hold the time, and both workers' must agree."""
    return argname if isinstance(val, bytes) else None
