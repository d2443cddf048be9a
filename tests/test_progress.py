"""Progress: bars on a terminal that go away, lines in a log that is none, silence in a library."""

import io
import itertools
import logging

import pytest
from rich.console import Console

from mgd_ssl import progress
from mgd_ssl.commands.terminal import guarded
from mgd_ssl.screen import NOT_ON_TERMINAL

logger = logging.getLogger("mgd_ssl")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is five seconds later; a command's log is there."""
    clock = itertools.count(0.0, 5.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    logger.handlers = [logging.NullHandler()]
    logger.setLevel(logging.INFO)


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> io.StringIO:
    out = io.StringIO()
    console = Console(file=out, width=columns, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "console", console)
    return out


def test_a_log_gets_a_line_now_and_then_and_every_item_comes_through(
    seconds: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert list(progress.tracked(range(20), "listing", 40)) == list(range(20))
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0] == "listing: 2/40 images, 0.2 images/s, 3:10 left"
    assert [text.split()[1] for text in texts] == [
        "2/40",
        "8/40",
        "14/40",
        "20/40",
    ]  # every thirty seconds
    assert all(vars(record)["not_for"] == NOT_ON_TERMINAL["not_for"] for record in caplog.records)


def test_what_is_unknown_is_not_said(seconds: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list(progress.tracked([300, 400], "listing", unit="files", count=lambda n: n))
    assert caplog.messages == ["listing: 700 files, 70 files/s"]


def test_a_library_and_other_processes_are_silent(
    seconds: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO):
        monkeypatch.setattr(progress.distributed, "launched_rank", lambda: 1)
        assert len(list(progress.tracked(range(20), "listing"))) == 20
        monkeypatch.setattr(progress.distributed, "launched_rank", lambda: 0)
        logger.handlers = []
        assert len(list(progress.tracked(range(20), "listing"))) == 20
    assert not caplog.messages


@pytest.mark.parametrize("columns", [80, 20])
def test_a_terminal_shows_bars_of_work_inside_work_and_keeps_none(
    columns: int, seconds: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = on_terminal(monkeypatch, columns)
    outer = progress.Progress("[epoch] 1/2", 8, "steps", logged=False)
    outer.advance(note="loss 3.5")
    list(progress.tracked(range(4), "kNN", 4))
    assert len(progress._bars) == 1
    outer.close()
    assert not progress._bars and not caplog.messages
    text = out.getvalue()
    assert "[epoch] 1/2" in text and "kNN" in text
    assert ("━" in text and "1/8 steps" in text and "loss 3.5" in text) == (columns == 80)
    assert max(len(line) for line in text.replace("\r", "\n").splitlines()) < columns + 20


def test_a_failed_command_leaves_no_bar(
    seconds: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, 80)

    def fail() -> None:
        for item in progress.tracked(range(9), "features"):
            if item == 5:
                raise ValueError("the sixth")

    assert guarded(fail) == 1 and not progress._bars
    assert "error: the sixth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ahead", "batches", "rate"),
    [
        (0, 6, 10 / 4.0),  # two warm up
        (4, 40, 10 / 4.0),  # two seconds a batch at first, which were decoded ahead, then four
        (4, 3, 10 / 2.0),  # there are no more
        (30, 40, 60 / 20.0),  # the time is up, of which two warm up
        (0, 1, 10 / 2.0),
    ],
)
def test_the_speed_is_that_once_what_was_decoded_ahead_is_used_up(
    monkeypatch: pytest.MonkeyPatch, ahead: int, batches: int, rate: float
) -> None:
    clock = itertools.accumulate(itertools.chain([0.0], [2.0] * 4, itertools.repeat(4.0)))
    if not ahead:
        clock = itertools.accumulate(itertools.chain([0.0], [2.0] * 2, itertools.repeat(4.0)))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    assert progress.steady_rate([10] * batches, ahead, least=6) == pytest.approx(rate)
