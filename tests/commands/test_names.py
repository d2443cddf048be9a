"""Names that are not UTF-8, or read like markup, pass through a run and all that is made of it."""

import json
import os
from pathlib import Path

from tiny_runs import arguments, read_rows

from mgd_ssl.commands import knn_eval, pretrain, report
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig

NAME = os.fsdecode(b"run\xff[/red]")


def test_a_run_of_such_a_name_is_trained_resumed_measured_and_reported(
    tmp_path: Path, teacher: Path
) -> None:
    run = tmp_path / NAME
    argv = arguments(run, teacher, "--limit", "32", "--epochs", "1")
    assert pretrain.main(argv) == 0
    assert len(read_rows(run)) == 3 and "train_loss" in read_rows(run)[-1]
    again = ["--config", str(run / "config.yaml"), "--resume"]
    assert parse(PretrainConfig, "x", again[:2]).out == run
    assert pretrain.main(again) == 0
    out, student = tmp_path / f"{NAME}.json", run / "student.safetensors"
    few = ["--limit", "40", "--limit-val", "20", "--knn-k", "1", "-j", "0"]
    assert knn_eval.main([str(student), *few, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["checkpoint"] == str(student)
    page = tmp_path / f"page-{NAME}.html"
    assert report.main([str(run), "--out", str(page)]) == 0
    assert "run\\udcff[/red]" in page.read_text(encoding="utf-8")
