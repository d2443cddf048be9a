"""Two processes of one run: what they share, what they say, and that neither outlives the other."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from forked import Session, run_on_two
from tiny_runs import arguments, read_last

from mgd_ssl.training import devices

TWO = ("--accelerator", "cpu", "--bn-splits", "1", "--devices", "2")
FOREVER = (*TWO, "--epochs", "500")


def family(process: Session) -> list[int]:
    """Living processes of a session other than its first."""
    command = ["ps", "-o", "pid=,stat=", "--sid", str(process.pid)]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    found = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, state in found if state[0] not in "ZX" and int(pid) != process.pid]


def end_of(process: Session) -> str:
    """What else is said, once nothing is left of the run."""
    said, _ = process.communicate(timeout=240)
    until = time.monotonic() + 15
    while family(process) and time.monotonic() < until:
        time.sleep(0.2)
    assert family(process) == []
    return said


def run_until(line: str, *command: str) -> tuple[Session, str]:
    """A command in a session of its own, and what it has said up to a line."""
    process, said = Session(*command), ""
    while line not in said:
        word = process.stdout.readline()
        assert word, said
        said += word
    return process, said


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_takes_the_other_with_it_in_one_message(
    tmp_path: Path, victim: int
) -> None:
    run = arguments(tmp_path / "run", None, *FOREVER, "-p", "1")
    process, _ = run_until("step 1/", "pretrain.py", *run)
    (other,) = family(process)
    os.kill([process.pid, other][victim], signal.SIGKILL)
    said = end_of(process)
    lines = [line for line in said.splitlines() if "error" in line.lower()]
    assert len(lines) == 1 and "Traceback" not in said, said
    if victim:
        assert "process 1 of 2 was killed" in lines[0] and process.returncode == 1
    assert "ended" in lines[0] or "killed" in lines[0]


def test_a_refusal_is_said_once_and_ends_both(tmp_path: Path) -> None:
    """The batch of 15 is found to be odd by both processes, after they have met."""
    run = arguments(tmp_path / "run", None, *FOREVER, "-b", "15")
    process = Session("pretrain.py", *run)
    said = end_of(process)
    assert process.returncode == 1 and said.count("error: ") == 1, said
    assert "batch_size: got 15 on 2 processes" in said
    assert not (tmp_path / "run").exists()


def test_ctrl_c_ends_both_with_one_line(tmp_path: Path) -> None:
    run = arguments(tmp_path / "run", None, *FOREVER, "-p", "1")
    process, _ = run_until("step 1/", "pretrain.py", *run)
    os.killpg(process.pid, signal.SIGINT)
    said = end_of(process)
    assert process.returncode == 130
    assert said.count("stopping after this step") == 1 and said.count("Resume with:") == 1, said


def send_buffers() -> None:
    devices.BUFFERS_STAY = {}


def test_buffers_that_are_not_sent_at_each_step_change_nothing(
    tmp_path: Path, teacher: Path
) -> None:
    """Weights, queue, statistics and figures to the bit; torch's own default sends all of them."""
    found = []
    for name, prepare in (("sent", send_buffers), ("kept", None)):
        run = arguments(tmp_path / name, teacher, *TWO[:-2], "--epochs", "2", "--threads", "1")
        run_on_two("pretrain", run, prepare)
        found.append(read_last(tmp_path / name))
    sent, kept = (found[0]["state_dict"], found[1]["state_dict"])
    assert sent.keys() == kept.keys() and "module.queue" in sent
    assert [k for k in sent if not torch.equal(sent[k], kept[k])] == []
    assert found[0]["optimizer"]["state"].keys() == found[1]["optimizer"]["state"].keys()


def test_children_are_ended_and_waited_for() -> None:
    from mgd_ssl.training import launch

    launch.CHILDREN[1] = subprocess.Popen(["sleep", "60"])
    started, child = time.monotonic(), launch.CHILDREN[1]
    launch.end_children(0.2)
    assert child.returncode == -signal.SIGKILL and time.monotonic() - started < 5
    assert launch.CHILDREN == {}
