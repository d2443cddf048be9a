"""A signal that asks a run to stop is noted in a step, and said and answered after it."""

import logging
import signal

import pytest

from mgd_ssl.training.stop_signal import StopNow, StopSignal


def test_nothing_is_logged_while_a_line_may_be_half_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "mgd_ssl"), StopSignal() as stop:
        assert not stop.agreed(0, 4)
        signal.raise_signal(signal.SIGTERM)
        assert caplog.messages == []
        assert stop.agreed(1, 4) and stop.agreed(2, 4)
    assert caplog.messages == ["SIGTERM: stopping after this step"]


def test_a_signal_before_work_that_may_break_off_is_said_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "mgd_ssl"), StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopNow), stop.at_once():
            raise AssertionError("not reached")
    assert caplog.messages == ["SIGTERM: stopping after this step"]
