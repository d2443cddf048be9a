"""Runs of the same settings but the seed, against figures taken by hand."""

from pathlib import Path
from typing import Any

import pytest
from written_runs import ALONE, SETTINGS, write_run

from mgd_ssl.reporting import Group, group_runs, read_runs
from mgd_ssl.reporting.groups import Spread, spread
from mgd_ssl.reporting.verdict import compared, evidence, verdict


def grouped(students: list[Path], baselines: list[Path] | None = None) -> list[Group]:
    return group_runs(read_runs(students, baselines or []))


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
    assert "run-1 is not finished: epoch 1 of 2." in verdict([alone], {})[0]


def test_the_verdict_compares_with_teacher_and_baseline(tmp_path: Path) -> None:
    students = [write_run(tmp_path / f"mgd-{s}", 60.0 + s, s) for s in (0, 1, 2)]
    alone = [write_run(tmp_path / f"moco-{s}", 50.0 + s / 2, s, **ALONE) for s in (0, 1, 2)]
    expected = (
        "mgd reaches 76.2% of the teacher's kNN accuracy at k 20, T 0.1 (61.0 of 80.0%), 10.5 "
        "points above moco, trained without a teacher (3 seeds each, spread 1.0)."
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
    assert "level with" in line and "The two groups also differ in optim.epochs." in line


def test_one_seed_is_hedged_and_so_is_a_seed_twice(tmp_path: Path) -> None:
    one = verdict(grouped([write_run(tmp_path / "a", seed=3)]), {})[0]
    assert one.endswith("(one seed: a difference of one point may be noise).")
    twice = [write_run(tmp_path / name, seed=s) for name, s in (("b", 3), ("c", 3), ("d", 4))]
    line = verdict(grouped(twice), {})[0]
    assert "3 runs of 2 seeds" in line
    assert "Two runs share a seed, so the spread is underestimated." in line


def test_a_single_seed_on_either_side_is_hedged(tmp_path: Path) -> None:
    students = [write_run(tmp_path / f"mgd-{s}", 60.0 + s, s) for s in (0, 1, 2)]
    alone = write_run(tmp_path / "moco", 50.0, **ALONE)
    for some in (students, students[:1]):
        (line,) = verdict(grouped([*some, alone]), {})
        assert f"a teacher ({'3 seeds against ' if some[1:] else ''}one seed" in line
        assert line.endswith("a difference of one point may be noise).")


def test_a_difference_within_the_spread_is_not_called_one(tmp_path: Path) -> None:
    students = [write_run(tmp_path / f"mgd-{s}", 60.0 + s, s) for s in (0, 2)]
    alone = [write_run(tmp_path / f"moco-{s}", 59.5 + s, s, **ALONE) for s in (0, 2)]
    (line,) = verdict(grouped([*students, *alone]), {})
    assert (
        ", 0.5 points above moco, trained without a teacher; the difference is within the spread "
        "of 1.4 between seeds, so it shows nothing (2 seeds each, spread 1.4)."
    ) in line


def test_figures_of_another_k_or_other_data_are_not_compared(tmp_path: Path) -> None:
    student = write_run(tmp_path / "mgd")
    for name, more in (
        ("a", {"evaluation": {"knn_k": 200, "knn_t": 0.1}}),
        ("b", {"data": "elsewhere"}),
    ):
        alone = write_run(tmp_path / name, 50.0, **more, **ALONE)
        (line,) = verdict(grouped([student], [alone]), {})
        assert "points" not in line and "Not comparable with moco" not in line
        assert f"Not comparable with {name}, trained without a teacher: " in line
    assert "data is elsewhere instead of None" in line


def test_a_baseline_may_choose_its_best_epoch_otherwise(tmp_path: Path) -> None:
    """By default best.pt is chosen by agreement with the teacher, where there is one."""
    knn = {"knn_k": 20, "knn_t": 0.1}
    student = write_run(tmp_path / "mgd", evaluation={**knn, "best": "agreement"})
    alone = write_run(tmp_path / "moco", 50.0, evaluation={**knn, "best": "last"}, **ALONE)
    (line,) = verdict(grouped([student, alone]), {})
    assert "10.0 points above moco, trained without a teacher" in line and "also differ" not in line


def test_without_distilled_runs_or_figures_the_verdict_says_so(tmp_path: Path) -> None:
    alone = write_run(tmp_path / "moco", 50.0, **ALONE)
    assert verdict(grouped([alone]), {}) == [
        "No run was distilled from a teacher. moco has a kNN accuracy at k 20, T 0.1 of "
        "50.0% (one seed: a difference of one point may be noise)."
    ]
    unmeasured = write_run(tmp_path / "mgd", None)
    assert (
        verdict(grouped([unmeasured]), {})[0]
        == "mgd was measured neither in training nor by an evaluator."
    )


def test_differences_are_in_points_and_held_against_the_spread() -> None:
    one, two = Spread(60.0, 0.5, (0, 1, 2)), Spread(59.4, 0.2, (0, 1))
    assert compared(one, two, "x") == "0.6 points above x"
    assert compared(two, one, "x") == "0.6 points below x"
    assert compared(one, one, "x") == "level with x"
    near = compared(one, Spread(59.5, 0.2, (0, 1)), "x")  # at the spread, not beyond it
    assert near.startswith("0.5 points above x; the difference is within the spread of 0.5 between")
    assert evidence(one, two) == "3 seeds against 2 seeds, spread 0.5"
    assert evidence(one, Spread(60.0, 0.5, (3, 4, 5))) == "3 seeds each, spread 0.5"


def row(top1: float, seeds: list[int], protocol: str = "kNN", **more: Any) -> dict[str, Any]:
    """As `grouped_results` gives them."""
    settings = {"size": 32, "data": "d", "train_images": 90, "val_images": 10}
    known = {"k", "T", "epochs", *settings}
    std = 0.5 if len(seeds) > 1 else None
    return {
        "checkpoint": more.get("checkpoint", "last.pt"),
        "protocol": protocol,
        "settings": settings | {k: v for k, v in more.items() if k in known},
        "top1": {"mean": top1, "std": std, "runs": len(seeds)},
        "top5": None,
        "seeds": seeds,
        "teacher_top1": 80.0,
        "percent_of_teacher": {"mean": top1 / 0.8, "std": std, "runs": len(seeds)},
        "warnings": more.get("warnings", []),
        "versions": {},
    }


def of_results(tmp_path: Path, mine: list[Any], theirs: list[Any]) -> list[str]:
    if not (tmp_path / "mgd").exists():
        write_run(tmp_path / "mgd", None)
        write_run(tmp_path / "moco", None, **ALONE)
    groups = grouped([tmp_path / "mgd", tmp_path / "moco"])
    return verdict(groups, {"mgd": mine, "moco": theirs})


def test_the_headline_is_at_the_default_k_and_t_and_names_them(tmp_path: Path) -> None:
    rows = [row(k / 10, [0], k=k, T=t) for t in (0.07, 0.1) for k in (1, 10, 20, 200)]
    (line,) = of_results(tmp_path, rows, [])
    assert line == (
        "mgd, kNN, k 20, T 0.1, last.pt: 2.0% top-1, 2.5% of the teacher's (one seed: a "
        "difference of one point may be noise)."
    )
    few = [r for r in rows if r["settings"]["k"] < 20]
    (line,) = of_results(tmp_path, few, [])
    assert line.startswith("mgd, kNN, k 10, T 0.1, last.pt: 1.0% top-1")
    assert line.endswith("The default (k 20, T 0.1) was not measured.")


def test_results_are_compared_under_the_same_conditions_alone(tmp_path: Path) -> None:
    mine, same = row(60.0, [0, 1], k=20, T=0.1), row(55.0, [0, 1], k=20, T=0.1)
    (line,) = of_results(tmp_path, [mine], [row(99.0, [0, 1], k=1, T=0.1), same])
    assert "5.0 points above moco, trained without a teacher (2 seeds each" in line
    other = row(55.0, [0, 1], k=20, T=0.1, val_images=9)
    (line,) = of_results(tmp_path, [mine], [other])
    assert "points" not in line
    assert line.endswith(
        "Not comparable with moco, trained without a teacher: val_images is 9 instead of 10."
    )
    best = row(55.0, [0, 1], k=20, T=0.1, checkpoint="best.pt")
    assert "checkpoint is best.pt instead of last.pt" in of_results(tmp_path, [mine], [best])[0]
    export = row(55.0, [0, 1], k=20, T=0.1, checkpoint="student.safetensors")  # the same weights
    assert "5.0 points above" in of_results(tmp_path, [mine], [export])[0]


def test_each_linear_protocol_has_a_line_of_the_last_checkpoint_and_its_warnings(
    tmp_path: Path,
) -> None:
    moco = [
        row(30.0, [0], "linear, moco", epochs=100, checkpoint="best.pt"),
        row(40.0, [0], "linear, moco", epochs=100, warnings=["the classifier has diverged"]),
    ]
    lines = of_results(tmp_path, [*moco, row(50.0, [0], "linear, cached", epochs=90)], [])
    assert [line.partition(":")[0] for line in lines] == [
        "mgd, linear, cached, epochs 90, last.pt",
        "mgd, linear, moco, epochs 100, last.pt",
    ]
    assert lines[1].endswith("Caution: the classifier has diverged.")
