"""What the screen shows of an epoch, and what only train.log holds."""

import io
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.errors import Interrupted
from mgd_ssl.training import logging as run_logging
from mgd_ssl.training.epoch_line import epoch_line
from mgd_ssl.training.logging import start_logging
from mgd_ssl.training.meter import Meter


@pytest.mark.parametrize(
    ("metrics", "figure"),
    [
        ({"val_knn_top1": 50.0, "val_knn_top1_percent_of_teacher": 62.5}, "kNN 62.5 % of teacher"),
        ({"val_knn_top1": 50.0, "health/neighbor_overlap": 0.3}, "kNN 50.0 %"),
        ({"health/neighbor_overlap": 0.3, "health/cka": 0.9}, "agreement 30 %"),
        ({"val_AP": 12.34, "val_AP50": 30.0}, "AP 12.3"),
    ],
)
def test_it_shows_the_figure_that_matters(metrics: dict[str, float], figure: str) -> None:
    line = epoch_line(2, 6, 40, metrics, loss=4.21349, speed=813.4, left="1:23")
    assert line == f"epoch 3/6  40 steps  loss 4.213  813 images/s  1:23 left  {figure}"


def test_it_fits_into_80_columns() -> None:
    metrics = {"val_knn_top1_percent_of_teacher": 100.0}
    line = epoch_line(198, 200, 5004, metrics, loss=12.3456, speed=12345, left="19:59:59")
    assert len(line) <= 80 and line.startswith("epoch 199/200  loss 12.35  12345 images/s")


def test_no_time_is_left_after_the_last_epoch() -> None:
    line = epoch_line(5, 6, 40, {}, loss=1.0, speed=10.0, left="")
    assert line == "epoch 6/6  40 steps  loss 1  10 images/s"


@pytest.mark.parametrize("terminal", [True, False])
def test_train_log_holds_all_figures_and_the_screen_one_line_an_epoch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, color_system=None, width=80)
    monkeypatch.setattr(run_logging, "console", console)
    start_logging(tmp_path / "train.log")
    meter = Meter(2, 1, None, torch.optim.SGD([torch.zeros(1)], 0.25))
    meter.add(0, 0, {"contrastive": torch.tensor(2.0)}, images=8)
    meter.report(0, 0)
    meter.finish(0, {"health/neighbor_overlap": 0.25, "health/cka": 0.5})
    shown = (screen.getvalue() if terminal else capsys.readouterr().err).splitlines()
    steps = [line for line in shown if "step 1/1" in line]
    (epoch,) = [line for line in shown if "1 steps" in line]
    assert "loss 2 " in epoch and "agreement 25 %" in epoch
    assert len(steps) == (not terminal) and len(shown) == 1 + len(steps)
    log = (tmp_path / "train.log").read_text()
    assert "epoch 1/2 step 1/1" in log and "health/cka 0.5" in log and "1 steps" not in log


def test_a_terminal_shows_the_command_that_resumes_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=30)
    monkeypatch.setattr(run_logging, "console", console)

    def run() -> None:
        start_logging()
        raise Interrupted(signal.SIGINT, begun=True)

    assert guarded(run, "pretrain", ["photos", "--out", f"runs/{'a' * 50}"]) == 130
    (line,) = screen.getvalue().splitlines()
    assert line.endswith(f"pretrain photos --out runs/{'a' * 50} --resume")


def test_a_terminal_shows_numbers_and_words_in_one_color(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system="truecolor", width=80)
    monkeypatch.setattr(run_logging, "console", console)
    start_logging()
    said = "HEAD: 6,000 images, top-1 75 % of 'teacher.pt'"
    run_logging.logger.info("%s", said)
    assert screen.getvalue().rstrip() == said
