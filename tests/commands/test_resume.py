"""A run that was stopped, by whatever, and resumed ends as one that was not."""

import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import killed_in_save, killed_in_step
from safetensors.torch import load_file
from tiny_runs import arguments, read_last, read_rows

from mgd_ssl.commands import pretrain
from mgd_ssl.runs.pretrain import PretrainRun
from mgd_ssl.training.training_data import ImageData

# Five steps an epoch and a checkpoint every two, so that epochs end between two checkpoints; the
# matching is solved before epochs 1, 2 and 3.
RUN = ("--epochs", "3", "--limit", "80", "--moco-k", "80", "--save-every", "2", "-p", "1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert pretrain.main(arguments(out, teacher, *RUN)) == 0
    return out


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested values differ by as much as a bit."""
    if isinstance(first, torch.Tensor):
        same = isinstance(second, torch.Tensor) and torch.equal(first, second)
        return [] if same else [where]
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [where]
        return [d for k in first for d in differences(first[k], second[k], f"{where}/{k}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}/{i}")]
    return [] if first == second else [where]


def assert_same_end(run: Path, uninterrupted: Path) -> None:
    """Weights, queue, distiller and optimizer to the bit; no step of the metrics twice."""
    for name in ("last.pt", "best.pt"):
        files = [path / "checkpoints" / name for path in (run, uninterrupted)]
        left, right = map(_without_config, files)
        assert len(right["state_dict"]) > 200 and right["distiller"] and right["optimizer"]["state"]
        assert differences(left, right) == []
    students = [load_file(path / "student.safetensors") for path in (run, uninterrupted)]
    assert differences(*students) == []
    steps = [(row["step"], "train_loss" in row) for row in read_rows(run)]
    assert steps == [(row["step"], "train_loss" in row) for row in read_rows(uninterrupted)]
    assert len(set(steps)) == len(steps)
    assert all(row["train_loss"] > 0 for row in read_rows(run) if "train_loss" in row)
    for mine, theirs in zip(_figures(run), _figures(uninterrupted), strict=True):
        assert mine == theirs


def _without_config(file: Path) -> dict[str, Any]:
    """A checkpoint without the settings, which name the directory."""
    content: dict[str, Any] = torch.load(file, weights_only=True)
    del content["config"]
    return content


def _figures(run: Path) -> list[dict[str, Any]]:
    """The rows of the metrics without what the machine does to them."""
    clocks = ("time", "images_per_second", "peak_memory_gib")
    return [{k: v for k, v in row.items() if k not in clocks} for row in read_rows(run)]


@pytest.mark.parametrize(
    ("file", "number"),
    [(None, 9), (None, 11), ("last.pt", 5), ("best.pt", 1), ("student.safetensors", 9)],
)
def test_a_killed_run_resumes_to_the_same_bits(
    tmp_path: Path, teacher: Path, uninterrupted: Path, file: str | None, number: int
) -> None:
    """In a step, or where one of the files is written and others are not."""
    run = tmp_path / "run"
    argv = arguments(run, teacher, *RUN)
    if file:
        killed_in_save(file, number, "pretrain", argv)
    else:
        killed_in_step(number, "pretrain", argv)
    assert read_last(run)["progress"]["epoch"] < 3
    assert pretrain.main([*argv, "--resume"]) == 0
    assert_same_end(run, uninterrupted)


def test_a_run_killed_in_its_first_last_pt_goes_on_from_best_pt(
    tmp_path: Path, teacher: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    argv = arguments(run, teacher, *RUN, "--save-every", "0")
    killed_in_save("last.pt", 1, "pretrain", argv)
    assert [path.name for path in (run / "checkpoints").glob("*.pt")] == ["best.pt"]
    assert pretrain.main([*argv, "--resume"]) == 0
    assert "last.pt is missing: going on from best.pt" in capsys.readouterr().err
    assert_same_end(run, uninterrupted)


@pytest.mark.parametrize(("signum", "step"), [(signal.SIGTERM, 7), (signal.SIGINT, 10)])
def test_a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on(
    tmp_path: Path,
    teacher: Path,
    uninterrupted: Path,
    capsys: pytest.CaptureFixture[str],
    signum: signal.Signals,
    step: int,
) -> None:
    """In the second and in the last step of the second epoch."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        stop_in("step", step, signum, patched)
        assert pretrain.main(arguments(run, teacher, *RUN)) == 128 + signum
    said = capsys.readouterr().err
    assert f"stopped by {signum.name} after a checkpoint" in said
    assert "Resume with: python -m mgd_ssl pretrain" in said and "--resume" in said
    assert "Traceback" not in said
    last = read_last(run)["progress"]
    assert (last["epoch"], last["step"]) == (1, step - 5)
    assert pretrain.main(arguments(run, teacher, *RUN, "--resume")) == 0
    assert_same_end(run, uninterrupted)


@pytest.mark.parametrize(
    ("place", "call", "signum"),
    [
        ("solving_batches", 2, signal.SIGTERM),
        ("measure", 2, signal.SIGHUP),
        ("step", 1, signal.SIGINT),
    ],
)
def test_a_stop_while_matching_or_measuring_is_answered_at_once_and_loses_nothing(
    tmp_path: Path,
    teacher: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    call: int,
    signum: signal.Signals,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        after = stop_in(place, call, signum, patched)
        assert pretrain.main(arguments(run, teacher, *RUN)) == 128 + signum
    assert after == ([] if place != "step" else ["went on"])
    assert pretrain.main(arguments(run, teacher, *RUN, "--resume")) == 0
    assert_same_end(run, uninterrupted)


def stop_in(place: str, call: int, signum: int, patched: pytest.MonkeyPatch) -> list[str]:
    """Signal this process in a method's n-th call; says whether that went on."""
    owner = ImageData if place == "solving_batches" else PretrainRun
    original, calls, after = getattr(owner, place), iter(range(1, 1000)), list[str]()

    def stopped(*args: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(signum)
            after.append("went on")
        return original(*args)

    patched.setattr(owner, place, stopped)
    return after


def test_a_stop_in_the_first_solve_leaves_nothing(
    tmp_path: Path,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_in("solving_batches", 1, signal.SIGTERM, monkeypatch)
    assert pretrain.main(arguments(tmp_path / "run", teacher, *RUN)) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM before the first step" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_finished_run_that_is_resumed_stays_as_it_is(uninterrupted: Path, teacher: Path) -> None:
    before = read_last(uninterrupted), read_rows(uninterrupted)
    assert pretrain.main(arguments(uninterrupted, teacher, *RUN, "--resume")) == 0
    assert differences([*before], [read_last(uninterrupted), read_rows(uninterrupted)]) == []


def test_resume_where_there_is_nothing_yet_starts_anew(tmp_path: Path, teacher: Path) -> None:
    run = tmp_path / "run"
    assert pretrain.main(arguments(run, teacher, "--epochs", "1", "--resume")) == 0
    assert read_last(run)["progress"]["epoch"] == 1


def test_two_runs_with_one_seed_agree_and_another_seed_does_not(
    tmp_path: Path, teacher: Path
) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        options = ("--epochs", "1", "--seed", seed)
        assert pretrain.main(arguments(tmp_path / name, teacher, *options)) == 0
    a, b, c = (read_last(tmp_path / name)["state_dict"] for name in "abc")
    assert differences(a, b) == [] and differences(a, c) != []


def test_the_file_size_limit_of_the_system_acts_as_a_full_disk(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        assert pretrain.main(arguments(run, teacher)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert "error: " in said and "could not be written" in said and "Free disk space" in said
    assert list((run / "checkpoints").iterdir()) == []
