"""What is read of a run directory, and what is refused."""

import json
from pathlib import Path

import pytest
from written_runs import ALONE, SETTINGS, write_run

from mgd_ssl.reporting import read_run, read_runs
from mgd_ssl.reporting.results import read_results


def test_a_run_says_how_far_it_came_and_how_good_it_is(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", 60.0, of=80.0))
    assert (run.kind, run.role, run.epoch, run.epochs, run.finished) == (
        *("pretrain", "distilled"),
        *(2, 2, True),
    )
    assert run.series("val_knn_top1") == {1.0: 50.0, 2.0: 60.0}
    assert run.teacher == pytest.approx(80) and run.percent[2.0] == pytest.approx(75)


def test_half_a_last_row_is_left_out_and_the_run_counts_as_unfinished(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text(path.read_text()[:-40])
    run = read_run(path.parent)
    assert (len(run.rows), run.epoch, run.finished) == (1, 1, False)


def test_a_broken_row_within_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text("{half\n" + path.read_text())
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1: got no JSON"):
        read_run(path.parent)


def test_figures_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 9, "epoch": 3.0, "val_knn_top1": NaN}\n')
    assert read_run(path.parent).last("val_knn_top1") == 60.0


def test_what_is_no_run_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; expected the directory of a run"):
        read_run(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="which is a file"):
        read_run(tmp_path / "file")
    with pytest.raises(ValueError, match=r"which holds file; expected a run's config\.yaml"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="got no run, expected one or more"):
        read_runs([])


def test_a_run_without_metrics_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match="has no metrics yet, expected a row or more"):
        read_run(path.parent)
    path.unlink()
    with pytest.raises(ValueError, match="has no metrics yet"):
        read_run(path.parent)


@pytest.mark.parametrize("text", ["- a list", "a: [", "data: null", "\x00"])
def test_settings_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    path = write_run(tmp_path / "run") / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config.yaml: got"):
        read_run(path.parent)


def test_a_run_is_read_once_and_is_not_its_own_baseline(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert len(read_runs([path, tmp_path / "." / "run"])) == 1
    with pytest.raises(ValueError, match="as a run and as --baseline, expected one of them"):
        read_runs([path], [path])


def test_the_kind_is_told_by_the_settings(tmp_path: Path) -> None:
    classify = read_run(write_run(tmp_path / "a", kd={"kd": True}))
    detect = read_run(write_run(tmp_path / "b", levels=["c2"]))
    assert (classify.kind, classify.metric) == ("classify", "val_top1")
    assert (detect.kind, detect.metric) == ("detect", "val_AP")


def test_the_warm_up_of_classify_comes_on_top_of_its_epochs(tmp_path: Path) -> None:
    optim = SETTINGS["optim"] | {"warmup_epochs": 1}
    assert read_run(write_run(tmp_path / "a", kd={}, optim=optim)).epochs == 3
    assert read_run(write_run(tmp_path / "b", optim=optim)).epochs == 2


def test_a_classifiers_teacher_is_read_from_the_log(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", None, kd={})
    assert read_run(path).teacher is None
    (path / "train.log").write_text("INFO teacher: top-1 88.50 %, top-5 99.00 %\n")
    assert read_run(path).teacher == 88.5


def test_a_teachers_own_run_says_how_good_it_is(tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher", 70.0, **ALONE)
    last = {"teacher": str(teacher / "checkpoints" / "last.pt")}
    path = write_run(tmp_path / "run", None, teacher=last)
    assert read_run(path).teacher == 70.0
    other = write_run(tmp_path / "other", None, teacher=last, data="elsewhere")
    assert read_run(other).teacher is None


def result(checkpoint: Path, top1: float) -> str:
    knn = [{"k": 20, "temperature": 0.1, "top1": top1, "top5": 99.0}]
    content = {"protocol": "kNN", "checkpoint": str(checkpoint), "size": 32, "knn": knn}
    return json.dumps({**content, "versions": {"torch": "2"}})


def test_results_are_found_in_the_run_beside_it_and_beside_the_teacher(tmp_path: Path) -> None:
    teacher = tmp_path / "zoo" / "teacher.pt"
    teacher.parent.mkdir()
    run = write_run(tmp_path / "runs" / "run", teacher={"teacher": str(teacher)})
    (run / "last.pt.knn.json").write_text(result(run / "last.pt", 61.0))
    (run.parent / "run-knn.json").write_text(result(run / "student.safetensors", 62.0))
    (run.parent / "other-knn.json").write_text(result(tmp_path / "other.pt", 1.0))
    (run.parent / "broken.json").write_text("{")
    (run.parent / "list.json").write_text("[]")
    (teacher.parent / "teacher.pt.knn.json").write_text(result(teacher, 80.0))
    found = {(r.of, r.top1) for r in read_results(read_run(run))}
    assert found == {("student", 61.0), ("student", 62.0), ("teacher", 80.0)}
