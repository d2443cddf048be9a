"""What is read of a run directory, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from written_runs import ALONE, SETTINGS, write_run

from mgd_ssl.reporting import group_runs, read_run, read_runs, summarize
from mgd_ssl.reporting.document import render
from mgd_ssl.reporting.results import read_results


def test_a_run_says_how_far_it_came_and_how_good_it_is(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", 60.0, of=80.0))
    assert (run.config["command"], run.role, run.epoch, run.epochs, run.finished) == (
        *("pretrain", "distilled"),
        *(2, 2, True),
    )
    assert run.series("val_knn_top1") == {1.0: 50.0, 2.0: 60.0}
    assert run.teacher == pytest.approx(80) and run.percent[2.0] == pytest.approx(75)


def test_half_a_last_row_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text(path.read_text()[:-40])
    run = read_run(path.parent)
    assert (len(run.rows), run.epoch, run.finished) == (1, 1, False)
    assert run.notes == [
        f"{path}: 1 lines are not rows of metrics and were left out; the first is line 2"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "{half",
        "[" * 100_000,
        "[1, 2]",
        "7",
        '{"step": 1}',
        '{"epoch": "2"}',
        '{"epoch": NaN}',
        '{"epoch": -1}',
        '{"epoch": 1e300}',
        '{"epoch": ' + "9" * 5000 + "}",
        '{"epoch": 1, "a": ' + "[" * 30 + "]" * 30 + "}",
        "\x00\x00",
    ],
)
def test_lines_that_are_no_rows_are_left_out_and_counted(tmp_path: Path, line: str) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text(f"{line}\n" + path.read_text() + f"{line}\n")
    run = read_run(path.parent)
    assert len(run.rows) == 2 and run.last("val_knn_top1") == 60.0
    assert run.notes == [
        f"{path}: 2 lines are not rows of metrics and were left out; the first is line 1"
    ]


@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", '"61"', "true", "null", "[61]", "1e99", "9" * 400]
)
def test_values_that_are_no_finite_numbers_are_left_out_and_counted(
    tmp_path: Path, value: str
) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text(path.read_text() + f'{{"step": 9, "epoch": 3.0, "val_knn_top1": {value}}}\n')
    run = read_run(path.parent)
    assert run.last("val_knn_top1") == 60.0
    assert run.notes == [
        f"{path}: 1 values of val_knn_top1 are not finite numbers and were left out"
    ]


def test_rows_count_in_the_order_of_their_epochs(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert read_run(path.parent).last("val_knn_top1") == 60.0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seed": "three"}, "seed: got 'three', expected a whole number; correct it, or leave"),
        ({"seed": True}, "seed: got True"),
        ({"optim": {"epochs": "ten"}}, r"optim\.epochs: got 'ten', expected a whole number from 0"),
        ({"optim": {"epochs": -1}}, r"optim\.epochs: got -1"),
        ({"optim": {"epochs": 2, "warmup_epochs": [1]}}, r"optim\.warmup_epochs: got \[1\]"),
        ({"data": ["a", 5]}, r"data: got \['a', 5\], expected paths"),
        ({"teacher": {"teacher": 5}}, r"teacher\.teacher: got 5, expected a path"),
        ({"evaluation": {"knn_k": {"a": 1}}}, r"evaluation\.knn_k: got \{'a': 1\}"),
    ],
)
def test_settings_of_another_type_are_refused_by_name(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    path = write_run(tmp_path / "run")
    config = path / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | more))
    with pytest.raises(ValueError, match=f"config.yaml: {message}"):
        read_run(path)


def test_settings_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    knots = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    (path / "config.yaml").write_text(f"a0: &a0 [1]\n{knots}optim: {{epochs: 2}}\n")
    with pytest.raises(ValueError, match=r"config.yaml: not YAML \(more than 10000 values"):
        read_run(path)


def test_settings_that_yaml_makes_objects_of_are_text(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    odd = (
        "\nday: 2024-01-01\n5: five\nrate: .nan\nraw: !!binary aGFsbG8=\n" + f"long: {'x' * 5000}\n"
    )
    (path / "config.yaml").write_text((path / "config.yaml").read_text() + odd)
    run = read_run(path)
    assert (run.setting("day"), run.setting("5"), run.setting("rate")) == (
        *("2024-01-01", "five"),
        "nan",
    )
    assert len(run.setting("long")) == 1001
    (path / "config.yaml").write_text("!!python/object/apply:os.system [ls]\n")
    with pytest.raises(ValueError, match=r"config.yaml: not YAML \(could not determine a constr"):
        read_run(path)


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
    with pytest.raises(ValueError, match="has no metrics yet, expected one or more rows"):
        read_run(path.parent)
    path.unlink()
    with pytest.raises(ValueError, match="has no metrics yet"):
        read_run(path.parent)


@pytest.mark.parametrize("text", ["- a list", "a: [", "data: null", "\x00"])
def test_settings_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    path = write_run(tmp_path / "run") / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config.yaml: (got no settings|not YAML)"):
        read_run(path.parent)


def test_a_run_is_read_once_and_is_not_its_own_baseline(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert len(read_runs([path, tmp_path / "." / "run"])) == 1
    with pytest.raises(ValueError, match="both as a run and as --baseline; give it once"):
        read_runs([path], [path])


def test_a_run_says_which_command_wrote_it(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", command="detect"))
    assert (run.command.line, run.metric) == ("mgd-ssl detect", "val_AP")


@pytest.mark.parametrize("command", ["rm", None, ["detect"], {}])
def test_settings_of_another_command_are_refused(tmp_path: Path, command: object) -> None:
    path = write_run(tmp_path / "run", command=command)
    with pytest.raises(ValueError, match=r"config.yaml: .* one of pretrain, classify, detect"):
        read_run(path)


def test_the_warm_up_of_classify_comes_on_top_of_its_epochs(tmp_path: Path) -> None:
    optim = SETTINGS["optim"] | {"warmup_epochs": 1}
    assert read_run(write_run(tmp_path / "a", command="classify", optim=optim)).epochs == 3
    assert read_run(write_run(tmp_path / "b", optim=optim)).epochs == 2


def test_the_teachers_figure_is_read_from_the_metrics_and_not_from_the_log(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 60.0, of=75.0)
    (path / "train.log").write_text("INFO teacher: kNN top-1 99.00 % (k 20)\n")
    assert (read_run(path).teacher, read_run(path).percent[2.0]) == (75.0, 80.0)
    other = write_run(tmp_path / "classify", None, command="classify")
    (other / "train.log").write_text("INFO teacher: top-1 88.50 %, top-5 99.00 %\n")
    assert read_run(other).teacher is None


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
    (teacher.parent / "teacher.pt.other.json").write_text(result(tmp_path / "x.pt", 2.0))
    results, notes = read_results(read_run(run))
    found = {(r.network, r.top1) for r in results}
    assert found == {("student", 61.0), ("student", 62.0), ("teacher", 80.0)}
    assert notes == []


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"knn": [{"k": 20, "top1": "61"}, {"k": 1, "top1": 50.0}]}, "1 of 2 figures"),
        ({"knn": [{"top1": float("nan")}]}, "1 of 1 figures"),
        ({"knn": {"k": 20, "top1": 1e300}}, "1 of 1 figures"),
        ({"knn": "none"}, "1 of 1 figures"),
        ({"knn": [None, [], 7]}, "3 of 3 figures"),
    ],
)
def test_figures_that_are_no_percentages_are_left_out_and_counted(
    tmp_path: Path, change: dict[str, Any], left: str
) -> None:
    run = write_run(tmp_path / "run")
    path = run / "last.pt.knn.json"
    path.write_text(json.dumps(json.loads(result(run / "last.pt", 61.0)) | change))
    _, notes = read_results(read_run(run))
    assert notes == [f"{path}: {left} are not percentages and were left out"]


@pytest.mark.parametrize(
    "change",
    [
        {"versions": [1]},
        {"versions": None, "warnings": {"a": 1}},
        {"sha256": [1]},
        {"sha256": {"last.pt": 7}},
        {"size": {"deep": [1]}},
        {"knn": [{"k": [1], "top1": 61.0, "top5": "99"}]},
    ],
)
def test_results_of_odd_types_are_data(tmp_path: Path, change: dict[str, Any]) -> None:
    run = write_run(tmp_path / "run", teacher={"teacher": "a\0b"})
    content = json.loads(result(run / "last.pt", 61.0)) | change
    (run / "last.pt.knn.json").write_text(json.dumps(content))
    ((found,), notes) = read_results(read_run(run))
    assert (found.top1, notes) == (61.0, [])
    summarize("Title", group_runs(read_runs([run])))


@pytest.mark.parametrize("checkpoint", ["a\0b", "x" * 5000, 7, None, ["last.pt"]])
def test_results_that_name_no_file_are_left_out(tmp_path: Path, checkpoint: object) -> None:
    run = write_run(tmp_path / "run", teacher={"teacher": "a\0b"})
    content = json.loads(result(run / "last.pt", 61.0)) | {"checkpoint": checkpoint}
    (run / "last.pt.knn.json").write_text(json.dumps(content))
    results, (note,) = read_results(read_run(run))
    assert results == [] and "which is neither this run's student nor its teacher" in note
    summarize("Title", group_runs(read_runs([run])))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00"])
def test_result_files_that_cannot_be_read_are_counted(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "last.pt.knn.json").write_text(text)
    results, (note,) = read_results(read_run(run))
    assert results == [] and note.startswith(f"{run / 'last.pt.knn.json'}: it cannot be read")


def test_images_that_could_not_be_read_stand_beside_a_result(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    counts = {"val_images": 98, "val_unreadable": 2, "train_images": 50, "train_unreadable": 0}
    content = json.loads(result(run / "last.pt", 61.0)) | counts
    (run / "last.pt.knn.json").write_text(json.dumps(content))
    metrics = run / "metrics.jsonl"
    last = {"step": 9, "epoch": 2.0, "val_images": 97, "val_unreadable": 3}
    metrics.write_text(metrics.read_text() + json.dumps(last) + "\n")
    groups = group_runs(read_runs([run]))
    summary = summarize("Title", groups)
    assert summary["groups"][0]["results"][0]["settings"]["val_unreadable"] == 2
    assert (summary["runs"][0]["val_images"], summary["runs"][0]["val_unreadable"]) == (97, 3)
    _, markdown, _ = render(summary, groups)
    assert "val\\_images 98 of 100" in markdown and "train\\_images 50," in markdown
    assert "| 97 of 100 |" in markdown
