"""A teacher that every test of the commands may share."""

from pathlib import Path

import pytest
from tiny_runs import write_teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pth.tar")
