"""Runs of the same settings but the seed, against figures taken by hand."""

from pathlib import Path
from typing import Any

import pytest
from written_runs import SETTINGS, write_run

from mgd_ssl.reporting import Group, group_runs, read_runs, summarize
from mgd_ssl.reporting.groups import Spread, differences, spread
from mgd_ssl.reporting.places import located


def grouped(paths: list[Path]) -> list[Group]:
    return group_runs(read_runs(paths))


def test_a_spread_is_the_mean_and_the_sample_deviation() -> None:
    found = spread([(0, 2.0), (1, 4.0), (1, 9.0), (2, None)])
    assert found == Spread(5.0, 13**0.5, (0, 1, 1))  # (9 + 1 + 16) / 2
    assert spread([(3, 7.0)]) == Spread(7.0, None, (3,))
    assert spread([(3, None)]) is None


def test_runs_are_grouped_by_all_but_the_seed(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"amp-{s}", 60.0 + 2 * s, s) for s in (2, 0, 1)]
    other = write_run(tmp_path / "amp-sgd", optim=SETTINGS["optim"] | {"lr": 0.2})
    first, second = grouped([*paths, other])
    assert (first.name, first.seeds) == ("amp", [0, 1, 2])
    assert first.figure == Spread(62.0, 2.0, (0, 1, 2))
    assert first.percent == Spread(77.5, 2.5, (0, 1, 2))  # 75, 77.5 and 80 of a teacher of 80
    assert first.series("val_knn_top1") == {1.0: 52.0, 2.0: 62.0}
    assert second.name == "amp-sgd"


@pytest.mark.parametrize("pattern", ["simreg/seed{}", "simreg.s{}", "simreg-seed{}", "simreg_{}"])
def test_a_group_is_named_without_its_seeds(tmp_path: Path, pattern: str) -> None:
    paths = [write_run(tmp_path / pattern.format(seed), seed=seed) for seed in (10, 11)]
    assert [group.name for group in grouped(paths)] == ["simreg"]


def spelled(path: Path, seed: int, data: str, cache: str, **more: Any) -> Path:
    """A run whose places are spelled in one way or another."""
    places = {"data": [data], "teacher_cache": cache, "teacher": {"teacher": f"{cache}/teacher.pt"}}
    evaluation = {**SETTINGS["evaluation"], "eval_data": data}
    return write_run(path, 60.0 + seed, seed, **places, evaluation=evaluation, **more)


def test_places_are_compared_as_resolved_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [
        ("im", "c1"),
        ("./im/", "../" + tmp_path.name + "/c1"),
        (f"{tmp_path}/im", f"{tmp_path}/c1"),
    ]
    paths = [spelled(tmp_path / f"run-{i}", i, *some) for i, some in enumerate(places)]
    (group,) = grouped(paths)
    assert group.figure == Spread(61.0, 1.0, (0, 1, 2))
    other = spelled(tmp_path / "other", 0, "im2", "c1")
    assert len(grouped([*paths, other])) == 2
    method = spelled(tmp_path / "method", 0, f"{tmp_path}/im", "c1", method="seed")
    settings = summarize("t", grouped([paths[0], method]))["settings"]
    assert [*settings["differ"]] == ["method"]
    assert (settings["shared"]["data"], settings["shared"]["teacher_cache"]) == ("im", "c1")
    assert differences(*grouped([paths[0], method])) == []


def test_a_place_that_names_no_file_is_its_text() -> None:
    assert located("a\0b") == ["a\0b"]
    assert located(["~", 5]) == [str(Path.home()), str(Path("5").absolute())]


def test_two_groups_have_two_names(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name / "run", method=name) for name in ("mgd", "seed")]
    assert [group.name for group in grouped(paths)] == ["run", "run (2)"]


def test_an_unfinished_run_does_not_count_beside_finished_ones(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"run-{s}", 60.0, s) for s in (0, 1)]
    metrics = paths[1] / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    (group,) = grouped(paths)
    assert group.figure == Spread(60.0, None, (0,))
    (alone,) = grouped(paths[1:])
    assert alone.figure == Spread(50.0, None, (1,))
