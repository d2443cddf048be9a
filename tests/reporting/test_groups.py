"""Runs of the same settings but the seed, against figures taken by hand."""

from pathlib import Path

import pytest
from written_runs import ALONE, SETTINGS, write_run

from mgd_ssl.reporting import Group, group_runs, read_runs
from mgd_ssl.reporting.groups import Spread, spread
from mgd_ssl.reporting.verdict import compared, trusted, verdict


def grouped(students: list[Path], baselines: list[Path] | None = None) -> list[Group]:
    return group_runs(read_runs(students, baselines or []))


def test_a_spread_is_the_mean_and_the_sample_deviation() -> None:
    assert spread([2.0, 4.0, 9.0, None]) == Spread(5.0, 13**0.5, 3)  # (9 + 1 + 16) / 2
    assert spread([7.0]) == Spread(7.0, None, 1)
    assert spread([None]) is None


def test_runs_are_grouped_by_all_but_the_seed(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"amp-{s}", 60.0 + 2 * s, s) for s in (2, 0, 1)]
    other = write_run(tmp_path / "amp-sgd", optim=SETTINGS["optim"] | {"lr": 0.2})
    first, second = grouped([*paths, other])
    assert (first.name, first.seeds) == ("amp", [0, 1, 2])
    assert first.figure == Spread(62.0, 2.0, 3)
    assert first.percent == Spread(77.5, 2.5, 3)  # 75, 77.5 and 80 of a teacher of 80
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
    assert group.figure == Spread(60.0, None, 1)
    (alone,) = grouped(paths[1:])
    assert alone.figure == Spread(50.0, None, 1)
    assert "run-1 is not finished: epoch 1 of 2." in verdict([alone], {})[0]


def test_the_verdict_compares_with_teacher_and_baseline(tmp_path: Path) -> None:
    students = [write_run(tmp_path / f"mgd-{s}", 60.0 + s, s) for s in (0, 1, 2)]
    alone = [write_run(tmp_path / f"moco-{s}", 50.0 + s / 2, s, **ALONE) for s in (0, 1, 2)]
    expected = (
        "mgd reaches 76.2 % of the teacher's kNN accuracy (61.0 of 80.0 %); 10.5 points above "
        "the student trained without a teacher, moco (3 seeds each, spread 1.0)."
    )
    assert verdict(grouped(students, alone), {}) == [expected]
    assert verdict(grouped([*students, *alone]), {}) == [expected]  # found by its settings


def test_a_baseline_of_other_settings_is_not_taken_unasked_and_named_where_given(
    tmp_path: Path,
) -> None:
    student = write_run(tmp_path / "mgd")
    longer = SETTINGS["optim"] | {"epochs": 1}
    alone = write_run(tmp_path / "moco", optim=longer, **ALONE)
    assert "points" not in verdict(grouped([student, alone]), {})[0]
    line = verdict(grouped([student], [alone]), {})[0]
    assert "level with" in line and "The two also differ in optim.epochs." in line


def test_one_seed_is_hedged_and_so_is_a_seed_twice(tmp_path: Path) -> None:
    one = verdict(grouped([write_run(tmp_path / "a", seed=3)]), {})[0]
    assert "(one seed). With one seed no spread is known" in one
    twice = [write_run(tmp_path / name, seed=s) for name, s in (("b", 3), ("c", 3), ("d", 4))]
    assert "of one seed twice" in verdict(grouped(twice), {})[0]


def test_without_distilled_runs_or_figures_the_verdict_says_so(tmp_path: Path) -> None:
    alone = write_run(tmp_path / "moco", 50.0, **ALONE)
    assert verdict(grouped([alone]), {}) == [
        "No run was distilled from a teacher. moco has a kNN accuracy of 50.0 % (one seed)."
    ]
    unmeasured = write_run(tmp_path / "mgd", None)
    assert "nothing was measured" in verdict(grouped([unmeasured]), {})[0]


def test_differences_are_in_points_and_held_against_the_spread() -> None:
    one, two = Spread(60.0, 0.5, 3), Spread(59.6, 0.2, 2)
    assert compared(one, two) == "0.4 points above" and compared(two, one) == "0.4 points below"
    assert compared(one, one) == "level with"
    expected = "3 seeds against 2, spread 0.5, within which the difference is: none is shown"
    assert trusted(one, two) == expected
    assert trusted(one, Spread(59.0, 0.2, 3)) == "3 seeds each, spread 0.5"
