"""Results on the disk and on the screen."""

import io
import json
import os
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mgd_ssl.evaluation.results import format_value, print_table, versions, write_json


def test_json_comes_back_with_its_versions(tmp_path: Path) -> None:
    result = {"protocol": "kNN", "checkpoint": Path("a/last.pt"), "knn": [{"k": 20, "top1": 81.5}]}
    path = write_json(tmp_path / "new" / "result.json", result)
    found = json.loads(path.read_text())
    assert torch.__version__.startswith(found.pop("versions")["torch"])
    assert found == {**result, "checkpoint": "a/last.pt"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.ones(2)])
def test_a_result_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = write_json(tmp_path / "result.json", {"top1": 1.0})
    before = path.read_text()
    with pytest.raises(ValueError, match="expected finite figures and plain values"):
        write_json(path, {"top1": value})
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_json(tmp_path / "result.json", {"top1": 1.0})
    before = path.read_text()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"top1": 2.0})
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_a_table_shows_every_key_value_and_setting() -> None:
    out = io.StringIO()
    rows = [{"k": 20, "top1": 81.256}, {"k": 200, "temperature": 0.07, "top1": 100.0}]
    console = Console(file=out, width=100)
    print_table("kNN accuracy", rows, {"protocol": "weighted vote"}, console)
    text = out.getvalue()
    shown = ("kNN accuracy", "k", "top1", "temperature", "20", "81.26", "200", "0.07", "100.00")
    assert all(word in text for word in (*shown, "protocol weighted vote"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(81.256, "81.26"), (0.001, "0.001"), (0.0, "0.00"), (20, "20"), (True, "True"), ("x", "x")],
)
def test_values_are_short_and_lose_no_setting(value: object, expected: str) -> None:
    assert format_value(value) == expected


def test_versions_name_what_was_used() -> None:
    assert {"python", "torch", "numpy"} <= versions().keys()


def test_names_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[/red] [bold]x[/bold]"
    print_table(name, [{name: name}], {name: name}, Console(width=100))
    assert capsys.readouterr().out.count(name) == 5
