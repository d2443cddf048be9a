"""A step that does not fit is refused before a run takes its directory; the advice is followed."""

import re
from pathlib import Path

import pytest
from tiny_runs import arguments, read_last

from mgd_ssl.commands import pretrain
from mgd_ssl.training import memory_check


def test_the_batch_of_the_advice_trains(
    tmp_path: Path,
    teacher: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_check, "available", lambda device: 3 * 2**25)
    given = ["--bn-splits", "1", "--epochs", "1", "--limit", "256", "--moco-k", "256"]
    assert pretrain.main(arguments(tmp_path / "run", teacher, *given, "-b", "256")) == 1
    said = capsys.readouterr().err
    assert "batch_size: a step of 256 images needs about 0.2 GiB" in said
    assert not (tmp_path / "run").exists()
    batch = re.search(r"give -b (\d+)", said)
    assert batch is not None
    assert pretrain.main(arguments(tmp_path / "run", teacher, *given, "-b", batch[1])) == 0
    assert read_last(tmp_path / "run")["progress"]["epoch"] == 1
