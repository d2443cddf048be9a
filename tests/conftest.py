"""Every test runs on one thread, and with the tensor shapes of the annotations checked."""

import os
import signal
from pathlib import Path

import mgd_ssl.commands  # says what must be said before torch loads

os.environ.setdefault("OMP_NUM_THREADS", "1")

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


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny teacher, for every test of a command."""
    from tiny_runs import write_teacher  # the shapes of what it imports are checked too

    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pth.tar")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes stay out of test names: a zip file's hold the time, and both workers' must agree."""
    return argname if isinstance(val, bytes) else None
