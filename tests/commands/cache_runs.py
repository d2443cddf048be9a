"""Runs whose command makes the teacher cache first: their data, command lines and refusals."""

from pathlib import Path

import pytest
from image_files import class_tree
from tiny_runs import TRAINING

from mgd_ssl.commands import cache, pretrain
from mgd_ssl.runs import cache as runs

IMAGES, VIEWS = 40, 2
STUDENT = ["-a", "resnet18", "--width", "0.125", "--stem", "small", "--stem-stride", "2"]
RUN = [*STUDENT, *TRAINING[:2], "--epochs", "3", "--size", "32", "-j", "0"]
NO_FIGURES = ["--knn-every", "0", "--health-every", "0"]
Capture = pytest.CaptureFixture[str]


def in_small_parts() -> None:
    runs.PART_IMAGES = 16


def write_data(root: Path) -> Path:
    """Two classes without a val part."""
    class_tree(root, {"cat": IMAGES // 2, "dog": IMAGES // 2})
    return root


def words(data: Path, teacher: Path, folder: Path, *more: str) -> list[str]:
    """A command line that makes a cache in folder/cache and trains in folder/run."""
    given = ["--teacher", str(teacher), "--teacher-cache", str(folder / "cache"), *RUN]
    given += [] if "--cache-views" in more else ["--cache-views", str(VIEWS)]
    return [str(data), *given, "--out", str(folder / "run"), *more]


def train(data: Path, teacher: Path, folder: Path, *more: str) -> int:
    return pretrain.main(words(data, teacher, folder, *NO_FIGURES, *more))


def make_apart(data: Path, teacher: Path, out: Path, *more: str) -> None:
    """By the command of its own."""
    given = ["--views", str(VIEWS), "--size", "32", "-j", "0", *more]
    assert cache.main([str(data), "--teacher", str(teacher), "--out", str(out), *given]) == 0


def refused(capsys: Capture, status: int) -> str:
    assert status == 1
    return " ".join(capsys.readouterr().err.split())
