"""Small runs of ``mgd-ssl detect`` on the sample in the repository."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import read_rows

from mgd_ssl.commands import detect

SAMPLE = Path(__file__).parent / "detection_sample"
NETWORK = ["-a", "resnet18", "--width", "0.125", "--stem", "imagenet", "--stem-stride", "1"]
DETECTOR = ["--fpn-channels", "32", "--head-convs", "1", "--smallest-anchor", "8"]
DETECTOR += ["--min-size", "64", "--max-size", "96"]
TRAINING = ["-b", "4", "--epochs", "2", "--lr", "0.001", "--optimizer", "adamw", "-j", "0"]
TRAINING += ["--warmup-steps", "2", "-p", "1"]


def options(out: Path, *more: str) -> list[str]:
    """A run of two epochs of three steps on the 14 images of the sample; the last option counts."""
    given = [str(SAMPLE), "--out", str(out)]
    pairs = TRAINING if "--student-weights" in more else [*NETWORK, *DETECTOR, *TRAINING]
    ways = {"--mgd-loss-factor", "--mgd-weight", "--mgd-start"}
    if "--teacher" in more and not ways & {*more}:
        given += ["--mgd-start", "0.03"]
    for word, value in zip(pairs[::2], pairs[1::2], strict=True):
        if word not in more:
            given += [word, value]
    return [*given, *more]


def losses(run: Path) -> dict[str, float]:
    """The losses of the last epoch."""
    row = [row for row in read_rows(run) if "train_loss" in row][-1]
    return {k.removeprefix("train_loss/"): v for k, v in row.items() if "train_loss/" in k}


def said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert detect.main(argv) == 1
    return " ".join(capsys.readouterr().err.split())


def broken(folder: Path, change: Any) -> Path:
    """The sample with its training annotations changed."""
    shutil.copytree(SAMPLE, folder)
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder
