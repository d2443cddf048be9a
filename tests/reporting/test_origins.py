"""A report says whose weights its students come from, as their files do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import check_page
from safetensors.numpy import save_file
from written_runs import write_run

from mgd_ssl.models.families import Terms
from mgd_ssl.models.provenance import Provenance
from mgd_ssl.models.specs import BackboneSpec
from mgd_ssl.reporting import group_runs, read_runs, summarize
from mgd_ssl.reporting.document import render
from mgd_ssl.reporting.origins import origins, read_provenance

TERMS = Terms("CC BY-NC 4.0", "no commercial use", publisher="Meta")
SPEC = BackboneSpec("timm/vit_base_patch16_224")
TEACHER = Provenance("mae_<b>.pth", "mae", SPEC, {"mae_<b>.pth": "ab" * 32}, TERMS)
START = Provenance("mobilenet_v2", "torchvision", BackboneSpec("mobilenet_v2"))


def write_student(run: Path, provenance: Any) -> None:
    metadata = {"provenance": json.dumps(provenance)}
    save_file({"weight": np.zeros(1, np.float32)}, run / "student.safetensors", metadata)


def test_page_and_markdown_name_both_files_with_digest_and_terms(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"r-{seed}", 60.0, seed) for seed in (0, 1)]
    for run in runs:
        write_student(run, {"teacher": TEACHER.to_dict(), "student_weights": START.to_dict()})
    groups = group_runs(read_runs(runs))
    summary = summarize("Title", groups)
    expected = [
        f"Teacher: mae_<b>.pth, timm/vit_base_patch16_224; SHA-256 of mae_<b>.pth {'ab' * 32}; "
        "license CC BY-NC 4.0 (weights that Meta publishes in this layout); beyond its usual "
        "notice: no commercial use",
        "Initial weights: mobilenet_v2, mobilenet_v2",
    ]
    assert summary["runs"][0]["origins"] == expected
    page, markdown, _ = render(summary, groups)
    parsed = check_page(page)
    assert [parsed.words.count(f"{line}.") for line in expected] == [1, 1]  # of two runs
    assert "b" not in parsed.tags and markdown.count("no commercial use") == 1


@pytest.mark.parametrize("said", ["text", [1], {"teacher": 3}])
def test_an_entry_of_another_kind_stops_no_report(tmp_path: Path, said: Any) -> None:
    write_student(tmp_path, said)
    assert list(origins(read_provenance(tmp_path))) == []


def test_what_is_not_said_is_left_out(tmp_path: Path) -> None:
    for part in ({}, {"sha256": 1, "network": "x"}):
        write_student(tmp_path, {"teacher": part})
        assert list(origins(read_provenance(tmp_path))) == ["Teacher: of unknown file"]


def test_a_student_without_provenance_and_a_damaged_one_say_nothing(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == {}
    (tmp_path / "student.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{")
    assert read_provenance(tmp_path) == {}
    save_file({"weight": np.zeros(1, np.float32)}, tmp_path / "student.safetensors")
    assert read_provenance(tmp_path) == {}
