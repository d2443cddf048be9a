"""The first sentence and the bars, against figures taken by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from written_runs import ALONE, SETTINGS, write_run

from mgd_ssl.reporting import group_runs, read_runs, summarize
from mgd_ssl.reporting.results import read_published


def headline(
    paths: list[Path], published: Sequence[Path] = (), baseline: Sequence[Path] = ()
) -> dict[str, Any]:
    """The first group's sentence and cautions, and the panels."""
    found = summarize("t", group_runs(read_runs(paths, baseline)), read_published(published))
    return {**found["verdict"][0], "panels": found["panels"]}


def seeds(folder: Path, name: str, *figures: float, **more: Any) -> list[Path]:
    pairs = enumerate(figures)
    return [write_run(folder / f"{name}-{s}", figure, s, **more) for s, figure in pairs]


def measure(run: Path, top1: float, network: str = "last.pt", **more: Any) -> Path:
    """A kNN result of a run's network, or of the network at another path."""
    path = run / f"{Path(network).name}.knn.json"
    content = {"protocol": "kNN, moco", "checkpoint": str(run / network), "val_images": 10}
    rows = [{"k": k, "temperature": 0.1, "top1": top1 - (k == 1)} for k in (1, 20)]
    path.write_text(json.dumps({**content, "knn": rows, **more}))
    return path


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        ((60, 61, 62), (50, 51, 52), "Yes: against moco, trained without a teacher, mgd is 10.0 "),
        ((50, 51, 52), (60, 61, 62), "No: against moco, trained without a teacher, mgd is 10.0 "),
        ((60, 64), (60.5, 61.5), "Not shown: against moco, trained without a teacher, mgd is 1.0 "),
        ((60.5,), (60,), "Not shown: against moco-0, trained without a teacher, mgd-0 is 0.5 "),
        ((60,), (58,), "Probably: against moco-0, trained without a teacher, mgd-0 is 2.0 "),
        ((58,), (60,), "Probably not: against moco-0, trained without a teacher, mgd-0 is 2.0 "),
    ],
)
def test_the_answer_weighs_the_difference_against_the_spread_or_a_point_of_one_seed(
    tmp_path: Path, mine: tuple[float, ...], theirs: tuple[float, ...], said: str
) -> None:
    paths = seeds(tmp_path, "mgd", *mine) + seeds(tmp_path, "moco", *theirs, **ALONE)
    assert headline(paths)["sentence"].startswith(said)


def test_the_sentence_gives_each_measurement_and_the_share_of_the_teacher(tmp_path: Path) -> None:
    mgd = seeds(tmp_path, "mgd", 60, 62)
    moco = seeds(tmp_path, "moco", 50, 52, **ALONE)
    linear = {"protocol": "linear, cached", "knn": [{"top1": 70.0}]}
    for run in mgd:
        measure(run, 0, **linear)
    for run in moco:
        measure(run, 0, **linear | {"knn": [{"top1": 73.0}]})
    assert headline([*mgd, *moco])["sentence"] == (
        "In part: against moco, trained without a teacher, mgd is 10.0 points higher in kNN "
        "accuracy and 3.0 points lower in linear accuracy; it keeps 76.2% of the teacher's kNN "
        "accuracy (2 seeds each)."
    )


def test_the_answer_is_not_known_without_something_to_compare(tmp_path: Path) -> None:
    (mgd,) = seeds(tmp_path, "mgd", 60)
    unknown = "Not known: no student alone to compare mgd-0 with."
    kept = "mgd-0 keeps 75.0% of the teacher's kNN accuracy."
    assert headline([mgd])["sentence"] == f"{unknown} {kept}"
    (alone,) = seeds(tmp_path, "moco", 50, **ALONE, optim=SETTINGS["optim"] | {"epochs": 1})
    assert headline([mgd, alone])["sentence"] == f"{unknown} {kept}"  # it trained for less long
    given = headline([mgd], baseline=[alone])
    assert given["sentence"].startswith("Probably: against moco-0, trained without a teacher")
    assert given["cautions"] == ["The two groups also differ in optim.epochs."]
    assert headline([alone])["sentence"] == (
        "Not known: no run was distilled from a teacher. moco-0 has a kNN accuracy of 50.0%."
    )


def test_a_student_from_a_teacher_cache_is_compared_with_one_alone(tmp_path: Path) -> None:
    (mgd,) = seeds(tmp_path, "mgd", 60, teacher_cache="cache", cache_views=7)
    (alone,) = seeds(tmp_path, "moco", 50, **ALONE, teacher_cache=None, cache_views=0)
    found = headline([mgd, alone])
    assert found["sentence"].startswith("Probably: against moco-0, trained without a teacher")
    assert found["cautions"] == []


def test_a_baseline_with_a_teacher_does_not_say_whether_the_teacher_was_worth_it(
    tmp_path: Path,
) -> None:
    (mgd,), (other,) = seeds(tmp_path, "mgd", 60), seeds(tmp_path, "simreg", 58)
    (alone,) = seeds(tmp_path, "moco", 50, **ALONE)
    assert headline([mgd], baseline=[other])["sentence"] == (
        "Not known: the baseline simreg-0 has a teacher too, so this does not say whether the "
        "teacher was worth it; against simreg-0, mgd-0 is 2.0 points higher in kNN accuracy; it "
        "keeps 75.0% of the teacher's kNN accuracy (one seed each)."
    )
    both = headline([mgd], baseline=[other, alone])["sentence"]
    assert both.startswith("Probably: against moco-0, trained without a teacher, mgd-0 is 10.0")


def test_without_labels_the_agreement_with_the_teacher_is_said_and_drawn(tmp_path: Path) -> None:
    """5 of 14 other images: 35.7% of them are shared by chance."""
    run, other = (write_run(tmp_path / name, None) for name in ("new", "weaker"))
    assert headline([run])["sentence"].startswith("Not known: new was measured neither in")
    for path, share in ((run, 0.6), (other, 0.4)):
        row = {"epoch": 2.0, "health/neighbor_overlap": share, "health_images": 15.0}
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row | {"health_neighbors": 5.0}) + "\n")
    found = headline([run])
    assert found["sentence"] == (
        "Not known: no student alone to compare new with. new shares 60.0% of its nearest "
        "neighbors with the teacher (5 neighbors among 15 held-out images, 35.7% by chance)."
    )
    (panel,) = found["panels"]
    assert [(bar["name"], bar["mean"]) for bar in panel["bars"]] == [("new", 60.0)]
    assert panel["chance"] == 35.7
    (group,) = summarize("t", group_runs(read_runs([run])))["groups"]
    assert group["series"]["health/neighbor_overlap_percent"] == [[2.0, 60.0]]
    against = headline([run], baseline=[other])["sentence"]
    assert "new is 20.0 points higher in agreement with the teacher; it shares 60.0%" in against
    measure(run, 50.0)  # an accuracy says more
    assert "shares" not in headline([run])["sentence"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"evaluation": {"knn_k": 200, "knn_t": 0.1}}, "evaluation.knn_k is 200 instead of 20"),
        ({"data": "elsewhere"}, "data is elsewhere instead of None"),
    ],
)
def test_figures_of_another_k_or_other_data_are_not_compared(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    (mgd,), (alone,) = seeds(tmp_path, "mgd", 60), seeds(tmp_path, "moco", 50, **ALONE, **more)
    found = headline([mgd], baseline=[alone])
    assert found["sentence"].startswith(
        f"Not known: moco-0, trained without a teacher, was not measured as mgd-0 was: {said}."
    )
    (panel,) = found["panels"]
    assert [bar["name"] for bar in panel["bars"]] == ["teacher", "mgd-0"]
    assert panel["apart"] == ["moco-0"]


def test_a_baseline_may_choose_its_best_epoch_otherwise(tmp_path: Path) -> None:
    """By default best.pt is chosen by agreement with the teacher, where there is one."""
    knn = {"knn_k": 20, "knn_t": 0.1}
    mgd = write_run(tmp_path / "mgd", 60.0, evaluation={**knn, "best": "agreement"})
    moco = write_run(tmp_path / "moco", 50.0, evaluation={**knn, "best": "last"}, **ALONE)
    found = headline([mgd, moco])
    assert "10.0 points higher" in found["sentence"] and not found["cautions"]


def test_shared_seeds_and_unfinished_runs_are_said(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, seed=s) for name, s in (("b", 3), ("c", 3), ("d", 4))]
    shared = "Two runs share a seed, so the spread is underestimated."
    assert headline(runs)["cautions"] == [shared]
    metrics = runs[2] / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    assert headline(runs[2:])["cautions"] == ["d is not finished: epoch 1 of 2."]


@pytest.mark.parametrize(
    ("rank", "deviation", "said"),
    [
        (1.52, 0.231, "effective rank 1.52"),
        (30.0, 0.0104, "deviation 0.010"),
        (2.5, 0.05, ""),
    ],
)
def test_a_collapse_that_lasted_is_said(
    tmp_path: Path, rank: float, deviation: float, said: str
) -> None:
    mgd, alone = write_run(tmp_path / "mgd"), write_run(tmp_path / "moco", 50.0, **ALONE)
    early = {"health/effective_rank": 1.0, "health/deviation": 0.0}
    late = {"health/effective_rank": rank, "health/deviation": deviation}
    for run, rows in ((mgd, (early, late)), (alone, (early,))):
        with (run / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps({"epoch": e, **row}) + "\n" for e, row in enumerate(rows, 1))
    first = [f"The features of mgd ({said}) had collapsed at the end of training."] * bool(said)
    flat = "effective rank 1.00, deviation 0.000"
    second = f"The features of moco ({flat}) had collapsed at the end of training."
    assert headline([mgd, alone])["cautions"] == [*first, second]
    assert headline([alone])["cautions"] == [second]


def test_the_most_relevant_figure_stands_for_a_protocol(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mgd", None)
    rows = [{"k": k, "temperature": t, "top1": k / 10} for t in (0.07, 0.1) for k in (1, 10, 200)]
    result = measure(run, 0, knn=[*rows, {"k": 20, "temperature": 0.1, "top1": 2.5}])
    measure(run, 0, "best.pt", protocol="linear, cached", knn=[{"top1": 9.0}])
    measure(run, 0, "student.safetensors", protocol="linear, cached", knn=[{"top1": 8.0}])
    found = headline([run])
    assert [(p["conditions"], p["bars"][-1]["mean"]) for p in found["panels"]] == [
        ("kNN, moco, k 20, T 0.1, last.pt, 10 val images", 2.5),  # at the run's own k and T
        ("linear, cached, student.safetensors, 10 val images", 8.0),  # the last checkpoint
    ]
    result.write_text(result.read_text().replace('"k": 20,', '"k": 7,'))
    found = headline([run])
    assert found["panels"][0]["conditions"] == "kNN, moco, k 200, T 0.1, last.pt, 10 val images"
    assert found["cautions"] == ["kNN at the default k 20, T 0.1 was not measured."]


@pytest.mark.parametrize(
    ("other", "said"), [({"size": 128}, "size 128"), ({"data": "zoo/birds"}, "on birds")]
)
def test_the_runs_own_images_go_first_and_others_are_named(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    run = write_run(tmp_path / "mgd", None, data=["photos"])
    own = {"size": 32, "data": "photos"}
    measure(run, 90.0, **own | other).rename(run / "a.json")
    found = headline([run])["panels"][0]
    assert found["conditions"] == f"kNN, moco, k 20, T 0.1, last.pt, 10 val images, {said}"
    measure(run, 50.0, **own)
    found = headline([run])["panels"][0]
    assert found["conditions"] == "kNN, moco, k 20, T 0.1, last.pt, 10 val images"
    assert found["bars"][-1]["mean"] == 50.0


@pytest.mark.parametrize(("train", "val"), [(10, 5), (10, 24), (100, 5), (9, 24)])
def test_of_a_quick_and_a_full_measurement_the_full_one_goes_first(
    tmp_path: Path, train: int, val: int
) -> None:
    """More val images count before more train images, as numbers and not as text."""
    run, alone = write_run(tmp_path / "mgd", None), write_run(tmp_path / "moco", None, **ALONE)
    for path, full, quick in ((run, 60.0, 80.0), (alone, 50.0, 90.0)):
        measure(path, quick, train_images=train, val_images=val).rename(path / "a.json")
        measure(path, full, train_images=48, val_images=24)
    found = headline([run, alone])
    assert "mgd is 10.0 points higher in kNN accuracy" in found["sentence"]
    (panel,) = found["panels"]
    assert panel["conditions"] == "kNN, moco, k 20, T 0.1, last.pt, 48 train / 24 val images"
    assert [bar["mean"] for bar in panel["bars"]] == [60.0, 50.0]
    best = {"train_images": 1_281_167, "val_images": 23, "val_unreadable": 2}
    measure(run, 61.0, "best.pt", **best)  # of 25 val images
    said = "kNN, moco, k 20, T 0.1, best.pt, 1,281,167 train / 23 val images"
    assert headline([run])["panels"][0]["conditions"] == said


def test_the_last_checkpoint_and_the_export_hold_the_same_weights(tmp_path: Path) -> None:
    mgd, moco = write_run(tmp_path / "mgd", None), write_run(tmp_path / "moco", None, **ALONE)
    measure(mgd, 60.0)
    best = measure(moco, 55.0, "best.pt")
    assert headline([mgd, moco])["sentence"].endswith("checkpoint is best.pt instead of last.pt.")
    best.unlink()
    measure(moco, 55.0, "student.safetensors")
    assert "5.0 points higher in kNN accuracy" in headline([mgd, moco])["sentence"]


def test_a_student_alone_may_have_its_methods_optimizer_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    adamw = SETTINGS["optim"] | {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.05}
    paths = seeds(tmp_path, "mgd", 60, 61, optim=adamw) + seeds(tmp_path, "moco", 50, 51, **ALONE)
    found = headline(paths)
    assert found["sentence"].startswith("Yes: against moco")
    differ = "optim.lr, optim.optimizer, optim.weight_decay"
    assert found["cautions"] == [f"The two groups also differ in {differ}."]


def test_bars_are_of_figures_that_were_measured_alike(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    teacher = tmp_path / "zoo" / "teacher.pt"
    of = {"teacher": {"teacher": str(teacher)}}
    mgd, *_ = seeds(tmp_path, "mgd", 60, **of)
    moco, other = seeds(tmp_path, "moco", 50, 40, **ALONE)
    measure(tmp_path / "zoo", 80.0, "teacher.pt", size=64)  # the teacher's images may be larger
    measure(mgd, 61.0, size=32)
    measure(moco, 51.0, size=32)
    measure(other, 41.0, size=32, val_images=9)
    weights = measure(tmp_path, 70.0, "resnet18", size=224)
    elsewhere = measure(tmp_path, 75.0, "resnet50", size=224, data="elsewhere")
    (panel,) = headline([mgd, moco, other], [weights, elsewhere])["panels"]
    assert (panel["words"], panel["conditions"]) == (
        "kNN accuracy",
        "kNN, moco, k 20, T 0.1, last.pt, 10 val images",
    )
    bars = [(bar["name"], bar["role"], bar["mean"], bar["seeds"]) for bar in panel["bars"]]
    assert bars == [
        ("teacher", "teacher", 80.0, 1),
        ("mgd-0", "distilled", 61.0, 1),
        ("resnet18", "published", 70.0, 1),
        ("moco", "alone", 51.0, 1),  # of seed 0; seed 1 was measured on fewer images
    ]
    assert (panel["teacher"], panel["apart"]) == (80.0, [])


def test_a_file_that_is_no_result_is_refused_as_published(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"title": 1}')
    with pytest.raises(ValueError, match=r"published: got .*x.json, expected the JSON file of knn"):
        read_published([tmp_path / "x.json"])
