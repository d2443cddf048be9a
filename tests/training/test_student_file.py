"""The student's own file: what it holds, byte for byte."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from mgd_ssl.models import BackboneSpec
from mgd_ssl.training.checkpoint import export_student, with_sorted_metadata


def test_equal_students_are_equal_files(tmp_path: Path) -> None:
    state = {"b": torch.rand(3, 5), "a": torch.arange(7)}
    norm, origin = {"mean": [0.5], "std": [0.25]}, {"teacher": "é"}
    for number in range(8):  # safetensors writes the metadata in an order that changes
        path = tmp_path / f"{number}.safetensors"
        export_student(path, state, BackboneSpec("resnet18"), norm, 32, origin)
        assert path.read_bytes() == (tmp_path / "0.safetensors").read_bytes()
    found = load_file(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["provenance"]) == origin
    assert json.loads(metadata["normalisation"]) == norm


def test_the_tensors_stay_at_multiples_of_eight_bytes() -> None:
    for length in range(8):
        content = with_sorted_metadata(save({"x": torch.rand(2)}, {"b": "é" * length, "a": "2"}))
        assert int.from_bytes(content[:8], "little") % 8 == 0
