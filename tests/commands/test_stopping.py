"""Ctrl-C and SIGTERM are answered once, in a line, wherever a command is."""

import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest
from forked import Session
from PIL import Image
from tiny_runs import ROOT, STUDENT, start

from mgd_ssl import distributed
from mgd_ssl.commands.signals import Stopped, stoppable
from mgd_ssl.commands.terminal import guarded
from mgd_ssl.errors import Interrupted


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for split in ("train", "val"):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for i in range(24):
                Image.new("RGB", (40, 40), (i, 9 * i, 200)).save(root / split / name / f"{i}.png")
    return root


def stop_group(process: Session, signum: int, line: str) -> tuple[int, str]:
    """Signal a process and all its children, as a terminal does, once it has said ``line``."""
    said = ""
    try:
        while line not in said:
            word = process.stdout.readline()
            assert word, said
            said += word
        os.killpg(process.pid, signum)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode is not None
    return process.returncode, said + rest


def test_an_evaluator_ends_with_one_line(pictures: Path, teacher: Path, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "knn.json"), "--size", "640", "-b", "2", "-j", "1"]
    command = ["knn_eval.py", str(teacher), str(pictures), *options, "--knn-k", "1"]
    process = Session(*command)
    status, said = stop_group(process, signal.SIGINT, "keys:")
    assert status == 130
    assert said.count("interrupted") == 1 and "Traceback" not in said
    assert not (tmp_path / "knn.json").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_with_workers_says_once_that_it_stops(
    pictures: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    options = ["--method", "moco", "--moco-k", "64", "-b", "16", "--epochs", "500", "-j", "2"]
    options += ["--size", "32", "--knn-every", "0", "-p", "1", "--out", str(tmp_path / "run")]
    command = ["pretrain.py", str(pictures), *STUDENT, *options]
    process = Session(*command)
    status, said = stop_group(process, signum, "step 1/")
    assert status == 128 + signum, said
    assert said.count(f"stopped by {signum.name}") == 1 and "Traceback" not in said, said
    assert said.count("stopping after this step") <= 1  # none where no step was being taken
    assert said.count("Resume with: python pretrain.py") == 1
    assert (tmp_path / "run/checkpoints/last.pt").exists()


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_a_command_that_is_being_imported_ends_with_one_line(seconds: float) -> None:
    process = start("pretrain.py", start_new_session=True)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT) and said == "interrupted\n"


def test_a_signal_becomes_an_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(lambda: signal.raise_signal(signal.SIGTERM)) == 143
    assert guarded(lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert capsys.readouterr().err == "interrupted\n" * 2
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("ending", "leaves"),
    [
        (None, True),
        (Interrupted(signal.SIGTERM, begun=True), True),
        (ValueError("its own"), False),  # the others may never come so far
        (Stopped(signal.SIGINT), False),
    ],
)
def test_processes_that_end_alike_leave_together(
    ending: BaseException | None, leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[bool] = []
    monkeypatch.setattr(distributed, "leave", lambda: left.append(True))

    def run() -> None:
        if ending:
            raise ending

    guarded(run)
    assert bool(left) is leaves


def test_the_second_signal_kills() -> None:
    with pytest.raises(Stopped), stoppable():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_a_closed_terminal_and_a_batch_systems_warning_stop_as_ctrl_c_does(name: str) -> None:
    signum = signal.Signals[name]
    assert guarded(lambda: signal.raise_signal(signum)) == 128 + signum


def test_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guarded(lambda: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_terminal_is_closed_keeps_its_work(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--method", "moco", "--moco-k", "64", "-b", "16", "--epochs", "500", "-j", "0"]
    options += ["--size", "32", "--knn-every", "0", "--health-every", "0", "-p", "1"]
    command = [sys.executable, "pretrain.py", str(pictures), *STUDENT, *options, "--out", str(run)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, command, os.environ | {"OMP_NUM_THREADS": "1"})
    while not (run / "checkpoints" / "last.pt").exists():
        os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert (run / "checkpoints" / "last.pt").is_file()
    assert "SIGHUP" in (run / "train.log").read_text(encoding="utf-8")
