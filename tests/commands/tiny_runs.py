"""Runs small enough for a test: a thin teacher, a thinner student, a few embedded images."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from mgd_ssl.data import ImageSource, subset
from mgd_ssl.losses import MoCo
from mgd_ssl.models import create_backbone
from mgd_ssl.runs import classify
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.run import TrainingRun

ROOT = Path(__file__).parents[2]
STEM = {"stem": "small", "stem_stride": 2}
STUDENT = ["-a", "resnet18", "--width", "0.125", "--stem", "small", "--stem-stride", "2"]
TRAINING = ["-b", "16", "--bn-splits", "2", "--epochs", "2", "--lr", "0.02"]
OF_METHOD = {
    "mgd": ["--moco-k", "64"],
    "moco": ["--moco-k", "64"],
    "seed": ["--moco-k", "64"],
    "compress": ["--moco-k", "64"],
    "disco": ["--moco-k", "64", "--disco-hidden", "32"],
    "simsiam": ["--simsiam-dim", "16"],
}
IMAGES = ["--size", "32", "--limit", "64", "--knn-every", "0"]
HEALTH = ["--health-images", "64"]  # of the usual 512, whose features would be half of a run's time


def write_teacher(path: Path, arch: str = "resnet18", width: float = 0.25) -> Path:
    """A random network in the layout that pretrain.py writes, as facebookresearch/moco does."""
    torch.manual_seed(0)
    backbone = create_backbone(arch, width=width, **STEM)
    state = MoCo(backbone, queue_size=64).state_dict()
    content = {
        "epoch": 0,
        "arch": arch,
        "state_dict": {f"module.{k}": v for k, v in state.items()},
        "backbone": {"arch": arch, "width": width, **STEM},
    }
    torch.save(content, path)
    return path


def arguments(out: Path, teacher: Path | None, *more: str) -> list[str]:
    """Options of a run of eight steps; of two options that agree, the last one counts."""
    source = ["--teacher", str(teacher), "--method", "mgd"] if teacher else ["--method", "moco"]
    words = [*source, *more]
    method = [word for before, word in pairwise(words) if before == "--method"][-1]
    given = ["--out", str(out), *source, *STUDENT, *TRAINING, *IMAGES, *OF_METHOD.get(method, [])]
    given += [] if "--health-every" in more else HEALTH
    for option in (word for word in more if word.startswith("-")):
        if option in given:
            place = given.index(option)
            del given[place : place + 2]
    return [*given, *more]


def start(
    *command: str, start_new_session: bool = False, **environment: str
) -> subprocess.Popen[str]:
    """A command in a process of its own, on one thread."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=start_new_session,
    )


def signal_at(process: subprocess.Popen[str], signum: signal.Signals, line: str) -> tuple[int, str]:
    """Send a signal once a process has said ``line``; its exit status and all that it said."""
    assert process.stdout is not None
    said: list[str] = []
    try:
        for word in process.stdout:
            said.append(word)
            if line in word:
                process.send_signal(signum)
                break
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, "".join(said) + rest


def read_rows(run: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl holds."""
    return [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]


def read_last(run: Path) -> dict[str, Any]:
    """The last checkpoint."""
    content: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return content


def listing(directory: Path) -> dict[str, bytes]:
    """Every file under a directory and what it holds."""
    files = (p for p in directory.rglob("*") if p.is_file())
    return {str(p.relative_to(directory)): p.read_bytes() for p in files}


def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the teacher is shown, each time that it is asked."""
    calls: list[int] = []
    forward = Teacher.forward

    def note(self: Teacher, images: torch.Tensor) -> object:
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Teacher, "forward", note)
    return calls


def measure_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let classifiers of this process be measured on 100 images of the embedded thousand."""
    opened = classify.open_labeled

    def few(config: ClassifyConfig) -> tuple[ImageSource, ImageSource]:
        train, val = opened(config)
        return train, subset(val, 100)

    monkeypatch.setattr(classify, "open_labeled", few)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process get SIGTERM in a step of a run, counted from 1."""
    original, count = TrainingRun.step, iter(range(1, 1000))

    def stepped(self: Any, batch: Any) -> dict[str, torch.Tensor]:
        if next(count) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch)

    monkeypatch.setattr(TrainingRun, "step", stepped)
