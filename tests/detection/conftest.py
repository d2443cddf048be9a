"""Runs that several tests look at."""

from pathlib import Path

import pytest
from detect_runs import options

from mgd_ssl.commands import detect


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that was trained by the command itself."""
    out = tmp_path_factory.mktemp("base") / "run"
    assert detect.main(options(out, "--width", "0.25", "--val-every", "2")) == 0
    return out


@pytest.fixture(scope="session")
def teacher(base: Path) -> str:
    return str(base / "checkpoints" / "last.pt")


@pytest.fixture(scope="session")
def distilled(tmp_path_factory: pytest.TempPathFactory, teacher: str) -> Path:
    out = tmp_path_factory.mktemp("distilled") / "run"
    assert detect.main(options(out, "--teacher", teacher, "--mgd-update-freq", "4")) == 0
    return out
