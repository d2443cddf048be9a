"""Which results of a run are rows of their own, which are averaged, and which are copies."""

import json
from pathlib import Path
from typing import Any

import pytest
from written_runs import ALONE, write_run

from mgd_ssl.reporting import group_runs, read_run, read_runs, summarize
from mgd_ssl.reporting.document import render
from mgd_ssl.reporting.pictures import vote_curves
from mgd_ssl.reporting.results import read_published


def probe(run: Path, name: str, top1: float, checkpoint: str = "last.pt", **more: Any) -> Path:
    """A linear probe of a run's checkpoint, or of the one at another path."""
    content = {"protocol": "linear, cached", "checkpoint": str(run / checkpoint), "size": 32}
    content |= {"exif": True, "precision": "32", "epochs": 2, "seed": 0, "top1": top1}
    path = run / f"{name}.json"
    path.write_text(json.dumps(content | more))
    return path


def rows(*paths: Path) -> list[dict[str, Any]]:
    """Rows of the results of runs that are one group."""
    (group,) = summarize("t", group_runs(read_runs(paths)))["groups"]
    return list(group["results"])


def test_probes_of_several_seeds_are_one_row_with_their_mean(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    probe(run, "a", 60.0, seed=0, top5=90.0, versions={"torch": "2"})
    probe(run, "b", 64.0, seed=1)
    (row,) = rows(run)
    assert row["top1"] == {"mean": 62.0, "std": None, "runs": 1}
    assert row["top5"]["mean"] == 90.0
    assert row["repeated"] == ["mean of 2 results (seeds 0, 1)"]
    groups = group_runs(read_runs([run]))
    summary = summarize("t", groups)
    assert "size 32, mean of 2 results (seeds 0, 1)" in render(summary, groups).page
    linear = next(p for p in summary["panels"] if p["words"] == "linear accuracy")
    assert (
        linear["conditions"] == "linear, cached, epochs 2, last.pt, mean of 2 results (seeds 0, 1)"
    )


def test_the_spread_is_over_runs_and_not_over_their_probes(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run-{seed}", seed=seed) for seed in (0, 1)]
    probe(runs[0], "a", 60.0, seed=0)
    probe(runs[0], "b", 64.0, seed=1)
    probe(runs[1], "a", 64.0, seed=5)
    (row,) = rows(*runs)
    assert row["top1"] == {"mean": 63.0, "std": 1.41, "runs": 2}  # of 62 and 64
    assert (row["seeds"], row["repeated"]) == ([0, 1], ["mean of 3 results (seeds 0, 1, 5)"])


def test_a_copy_of_a_result_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    probe(run, "a", 60.0, top5=90.0)
    probe(run, "copy", 60.0, top5=90.0, versions={"torch": "2"})
    (row,) = rows(run)
    assert (row["top1"]["mean"], row["repeated"]) == (60.0, [])
    probe(run, "again", 61.0, top5=90.0)  # of the same seed, on another machine
    (row,) = rows(run)
    assert (row["top1"]["mean"], row["repeated"]) == (60.5, ["mean of 2 results"])


@pytest.mark.parametrize(
    ("other", "said", "how"),
    [
        ({"precision": "bf16"}, "precision bf16", "precision is bf16 instead of 32"),
        ({"exif": False}, "exif False", "exif is False instead of True"),
        ({"val_folder": "test"}, "val_folder test", "val_folder is test instead of None"),
        (
            {"learning_rates": [7.0]},
            "learning_rates [7.0]",
            "learning_rates is 7.0 instead of 0.001 0.003 0.01 0.03 0.1 0.3 1.0 3.0",
        ),
    ],
)
def test_results_that_differ_in_more_are_rows_of_their_own_that_say_so(
    tmp_path: Path, other: dict[str, Any], said: str, how: str
) -> None:
    run, alone = write_run(tmp_path / "run", None), write_run(tmp_path / "moco", None, **ALONE)
    for path in (run, alone):
        probe(path, "a", 65.0, **other)
        probe(path, "b", 60.0)
    assert [row["top1"]["mean"] for row in rows(run)] == [65.0, 60.0]
    groups = group_runs(read_runs([run, alone]))
    summary = summarize("t", groups)
    (panel,) = summary["panels"]  # of the usual settings
    assert [bar["mean"] for bar in panel["bars"]] == [60.0, 60.0]
    assert panel["conditions"] == "linear, cached, epochs 2, last.pt"
    assert said in render(summary, groups).page
    (alone / "b.json").unlink()
    sentence = summarize("t", group_runs(read_runs([run, alone])))["verdict"][0]["sentence"]
    assert f"was not measured as run was: {how}." in sentence


def test_a_teachers_probes_are_averaged_too(tmp_path: Path) -> None:
    teacher = tmp_path / "zoo" / "teacher.pt"
    teacher.parent.mkdir()
    runs = [
        write_run(tmp_path / f"run-{seed}", seed=seed, teacher={"teacher": str(teacher)})
        for seed in (0, 1)
    ]
    for seed, top1 in ((0, 80.0), (1, 84.0)):
        name = f"teacher.pt.linear-{seed}"
        probe(teacher.parent, name, top1, "teacher.pt", seed=seed, size=64)
    probe(teacher.parent, "teacher.pt.bf16", 10.0, "teacher.pt", precision="bf16")
    for run in runs:
        probe(run, "a", 41.0)
    (row,) = rows(*runs)
    assert (row["teacher_top1"], row["percent_of_teacher"]["mean"]) == (82.0, 50.0)


@pytest.mark.parametrize("seed", ["one", [1], None])
def test_a_seed_of_another_type_is_none(tmp_path: Path, seed: object) -> None:
    run = write_run(tmp_path / "run")
    probe(run, "a", 60.0, seed=seed)
    probe(run, "b", 62.0, seed=1)
    assert [row["repeated"] for row in rows(run)] == [["mean of 2 results"]]


def test_data_is_the_same_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here, teacher = str(tmp_path / "im"), tmp_path / "zoo" / "teacher.pt"
    teacher.parent.mkdir()
    run = write_run(tmp_path / "run", None, teacher={"teacher": str(teacher)}, data=["im"])
    alone = write_run(tmp_path / "moco", None, **ALONE, data=[here])
    knn = {"protocol": "kNN, moco", "knn": [{"k": k, "top1": 40.0 + k} for k in (1, 20)]}
    for folder, name, data in ((run, "last.pt", "im"), (alone, "last.pt", "./im/")):
        probe(folder, "a", 0.0, name, data=data, **knn)
    probe(run, "copy", 0.0, data=here, **knn)
    probe(teacher.parent, "teacher.pt.a", 0.0, "teacher.pt", data=here, **knn)
    weights = probe(tmp_path, "resnet18", 0.0, "resnet18", data=here, **knn)
    groups = group_runs(read_runs([run, alone]))
    summary = summarize("t", groups, read_published([weights]))
    found = summary["groups"][0]["results"]
    assert [(row["teacher_top1"], row["repeated"]) for row in found] == [(41.0, []), (60.0, [])]
    assert {row["settings"]["data"] for row in found} == {"im"}  # as it was written
    (panel,) = summary["panels"]
    assert [bar["name"] for bar in panel["bars"]] == ["teacher", "run", "resnet18", "moco"]
    assert "run is level in kNN accuracy" in summary["verdict"][0]["sentence"]
    (curve,) = vote_curves(summary["groups"])
    assert curve.numbers[0] == ["k", "run", "teacher", "moco"]


def test_figures_in_training_are_compared_on_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path / "run", 60.0, data=["im"])
    alone = write_run(tmp_path / "moco", 50.0, **ALONE, data=[str(tmp_path / "im")])
    (line,) = summarize("t", group_runs(read_runs([run, alone])))["verdict"]
    assert "run is 10.0 points higher in kNN accuracy" in line["sentence"]
    assert line["cautions"] == []
    of = {"teacher": str(alone / "checkpoints" / "last.pt")}
    student = write_run(tmp_path / "student", None, teacher=of, data=["./im"])
    assert read_run(student).teacher == 50.0
