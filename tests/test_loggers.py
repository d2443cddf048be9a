"""Loggers of other projects, against packages of their names that record each call."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import arguments, read_rows

from mgd_ssl.commands import pretrain
from mgd_ssl.loggers import Loggers

RUN = ("--epochs", "2", "--limit", "32", "--method", "simreg", "--health-every", "0")
# Calls go to calls.jsonl; the step in stop.txt, if any, is met as a user's Ctrl-C is.
PACKAGE = """
import json, pathlib, types
here = pathlib.Path(__file__).parent
def note(**call):
    with open(here / "calls.jsonl", "a") as file:
        print(json.dumps(call), file=file)
def init(**start):
    note(call="init", **start)
    return types.SimpleNamespace(log=log, finish=lambda **end: note(call="finish", **end))
def log(row, step):
    stop = here / "stop.txt"
    if stop.exists() and step == int(stop.read_text()):
        raise KeyboardInterrupt
    if (here / "down.txt").exists():
        raise ConnectionError("no route to host")
    note(call="log", step=step, row=row)
entities = types.SimpleNamespace(
    Param=lambda key, value: [key, value], Metric=lambda key, value, time, step: [key, value, step]
)
class MlflowClient:
    def get_experiment_by_name(self, name): return None
    def create_experiment(self, name): return f"experiment {name}"
    def create_run(self, experiment, run_name):
        note(call="create_run", experiment=experiment, name=run_name)
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run 7"))
    def log_batch(self, key, metrics=(), params=()):
        note(call="log_batch", key=key, metrics=metrics, params=len(params))
    def update_run(self, key, status): note(call="update_run", key=key, status=status)
    def set_terminated(self, key, status): note(call="end", key=key, status=status)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in ("wandb", "mlflow", "trackio"):
        (folder / f"{name}.py").write_text(PACKAGE)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    return folder


def calls(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_a_stopped_run_goes_on_in_the_same_record(
    tmp_path: Path, packages: Path, teacher: Path
) -> None:
    out = tmp_path / "run"
    options = arguments(out, teacher, *RUN, "--logger", "wandb")
    (packages / "stop.txt").write_text("4")  # of four steps
    assert pretrain.main(options) != 0
    (packages / "stop.txt").unlink()
    assert pretrain.main([*options, "--resume"]) == 0
    made = calls(packages)
    first, again = (call for call in made if call["call"] == "init")
    assert first["id"] == again["id"] and again["resume"] == "allow"
    assert first["config"]["optim.epochs"] == 2 and first["config"]["method"] == "simreg"
    assert [call["exit_code"] for call in made if call["call"] == "finish"] == [1, 0]
    rows = {call["step"]: call["row"] for call in made if call["call"] == "log"}
    assert rows.keys() == {0, 2, 4}
    for row in read_rows(out):
        kept = {k: v for k, v in row.items() if k not in ("step", "time")}
        assert kept.items() <= rows[row["step"]].items()
    assert pretrain.main([*options, "--overwrite"]) == 0
    assert calls(packages)[-5]["id"] != first["id"]  # init, three rows, finish


def test_each_package_gets_rows_and_continues_its_run(tmp_path: Path, packages: Path) -> None:
    for _ in range(2):
        loggers = Loggers(("mlflow", "trackio"), tmp_path, {"seed": 3, "optim.lr": 0.1})
        loggers.write(5, 1.0, {"train_loss": 2.0, "train_loss/matching": 1.0})
        loggers.close()
    made = calls(packages)
    names = [call["name"] for call in made if call["call"] == "init"]
    assert names[0] == names[1] and names[0].startswith(f"{tmp_path.name}-")
    assert [call["row"]["train_loss"] for call in made if call["call"] == "log"] == [2.0, 2.0]
    kept = ["create_run", "log_batch", "log_batch", "end", "update_run", "log_batch", "end"]
    of_mlflow = [call for call in made if call["call"] in kept]
    assert [call["call"] for call in of_mlflow] == kept
    assert of_mlflow[0]["experiment"] == "experiment mgd_ssl" and of_mlflow[1]["params"] == 2
    # a file store cannot hold both train_loss and train_loss/matching
    expected = [["epoch", 1.0, 5], ["train_loss", 2.0, 5], ["train_loss.matching", 1.0, 5]]
    assert of_mlflow[2]["metrics"] == of_mlflow[5]["metrics"] == expected
    assert {call["key"] for call in of_mlflow[1:]} == {"run 7"}


def test_a_logger_that_fails_is_left_out_and_said(
    tmp_path: Path, packages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = Loggers(["trackio"], tmp_path, {})
    (packages / "down.txt").write_text("")
    for step in (1, 2):
        loggers.write(step, 1.0, {"a": 1.0})
    said = "trackio cannot be written to from step 1 on (no route to host); metrics.jsonl has every"
    assert [record.message[: len(said)] for record in caplog.records] == [said]


def test_a_missing_package_and_one_that_does_not_start_are_refused(
    tmp_path: Path, packages: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (packages / "mlflow.py").write_text("def MlflowClient(): raise OSError('no store')")
    with pytest.raises(ValueError, match="logger: mlflow does not start: no store; set mlflow up"):
        Loggers(["wandb", "mlflow"], tmp_path, {})
    assert [call["call"] for call in calls(packages)] == ["init", "finish"]  # wandb's is ended
    (packages / "wandb.py").unlink()
    sys.modules.pop("wandb", None)
    assert pretrain.main(arguments(tmp_path / "run", teacher, *RUN, "--logger", "wandb")) != 0
    assert "package wandb is not installed; add it: pip install wandb" in capsys.readouterr().err
