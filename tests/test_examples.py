"""The scripts of examples/: the inspector against a matching written by hand."""

import importlib
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def inspector(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("inspect_matching")


def test_the_inspector_shows_the_last_solve_of_a_run(inspector, tmp_path, capsys):
    folder = tmp_path / "matching"
    folder.mkdir()
    cost = np.array([[0.5, 1.0, 2.0], [2.0, 1.5, 0.25]])
    solves = {"epoch_0001": [[1, 2], [0, -1]], "epoch_0002": [[0, 1], [2, -1]]}
    for name, groups in solves.items():
        np.savez(folder / f"{name}.npz", **{"s1/cost": cost, "s1/assignment": np.array(groups)})
    inspector.main([str(tmp_path), "--rows", "2"])
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert head.startswith("s1: 3 teacher channels to 2 student channels, 1 or 2 each")
    assert head.endswith("total cost 1.75")  # 0.5 + 1.0 + 0.25
    assert first.split() == ["1", "0.25", "2"]
    assert second.split() == ["0", "0.75", "0", "1"]


def test_a_run_without_a_matching_is_refused(inspector, tmp_path):
    with pytest.raises(SystemExit, match="no matching/epoch"):
        inspector.main([str(tmp_path)])


def test_two_networks_give_each_teacher_channel_to_one_student_channel(inspector):
    from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER

    solves = inspector.of_networks(str(EMBEDDED_TEACHER), "timm/resnet10t", size=32)
    assert len(solves) == 4
    for cost, groups in solves.values():
        assert cost.shape[0] == len(groups)
        assert set(groups[groups >= 0].tolist()) == set(range(cost.shape[1]))
