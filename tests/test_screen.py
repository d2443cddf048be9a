"""Tables and plans as plain text that fits the screen."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from mgd_ssl.evaluation.results import print_table
from mgd_ssl.grouping import Grouping
from mgd_ssl.models import Tap, Taps
from mgd_ssl.screen import console
from mgd_ssl.stages import plan_stages
from mgd_ssl.tasks.task import FrozenTeacher
from mgd_ssl.training.plan import print_plan

PATH = "a folder with a long name/runs/resnet18-mgd-plus/checkpoints/last.pt"
ROWS = [{"k": 1, "temperature": 0.07, "top1": 7.5}, {"k": 200, "temperature": 0.1, "top1": 100.0}]


def printed(columns: int, rows: list[dict[str, float]] = ROWS) -> list[str]:
    out = io.StringIO()
    print_table(f"{PATH}:\nkNN", rows, {"size": 32}, Console(file=out, width=columns))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_table_is_aligned_text_below_a_path_in_one_piece() -> None:
    assert printed(80) == [
        f"{PATH}:",
        "kNN",
        "    k  temperature    top1",
        "    1         0.07    7.50",
        "  200          0.1  100.00",
        "size 32",
    ]


def test_a_table_wider_than_the_screen_is_words() -> None:
    assert printed(24)[2:] == [
        "k 1, temperature 0.07,",
        "top1 7.50",
        "k 200, temperature 0.1,",
        "top1 100.00",
        "size 32",
    ]


@pytest.mark.parametrize("columns", [80, 20])
def test_the_plan_names_channels_losses_and_modules_in_few_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "width", columns)
    reader = Taps([Tap("one", "0", "output"), Tap("two", "1", "output")])
    teacher = FrozenTeacher(nn.Sequential(nn.Conv2d(3, 24, 1), nn.Conv2d(24, 20, 2)), reader)
    theirs = [torch.zeros(1, 24, 4, 4), torch.zeros(1, 20, 2, 2)]
    stages = plan_stages(theirs, [torch.zeros(1, 8, 4, 4)] * 2, ["one", "two"])
    print_plan(stages, teacher, reader, Grouping("balanced", expands=False))
    lines = capsys.readouterr().out.splitlines()
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= columns
    assert all(f"{pair} of 4×4" in text for pair in ("8", "24")) and "20 of 2×2" in text
    assert "3" in text and "2–3" in text and "loss: one-sided" in text
    assert "student and teacher read 0, 1" in text and "two: resized" in text
    assert not set(text) & set("│┃━─╭┏")


def test_names_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(console, "file", said)
    console.print("photos[bold]:100:", soft_wrap=True)
    assert said.getvalue() == "photos[bold]:100:\n"
