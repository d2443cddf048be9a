"""Runs of the same settings but the seed, against figures taken by hand."""

from pathlib import Path

import pytest
from written_runs import SETTINGS, write_run

from mgd_ssl.reporting import Group, group_runs, read_runs
from mgd_ssl.reporting.groups import Spread, spread


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
