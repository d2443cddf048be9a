"""Failures that become one message, and the command line that goes on with a run."""

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mgd_ssl import distributed
from mgd_ssl.commands import failures
from mgd_ssl.commands.failures import again, await_turn, explained

RUN = ["DATA", "--out", "my runs/a", "--resume", "--overwrite"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("size: got 0"), "size: got 0"),
        (
            RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "),
            "a decoding process is killed by signal: Killed: by hand, or for want of memory",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 71, 72) exited unexpectedly"),
            "a decoding process exited unexpectedly: by hand",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"), "out of memory: CUDA"),
        (MemoryError(), "out of memory: on the CPU; give a smaller -b"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out of memory: [enforce fail]",
        ),
        (dist.DistNetworkError("socket"), "another process of this run ended"),
    ],
)
def test_what_a_user_can_mend_is_told_in_a_line(error: Exception, expected: str) -> None:
    message = explained(error)
    assert message is not None and message.startswith(expected) and "\n" not in message


def test_the_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "b"
    (hidden / "c").mkdir(parents=True)
    error = PermissionError(13, "Permission denied", str(hidden / "c" / "d.jpg"))
    assert explained(error) == str(error)  # it may be read by now, or was to be written
    monkeypatch.setattr(os, "access", lambda path, _: hidden not in [path, *path.parents])
    assert str(explained(error)).startswith(f"got {hidden}, which this user may not read; ")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    assert explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert explained(KeyError("x")) is None


@pytest.mark.parametrize("said", ["Connection closed by peer [127.0.0.1]:4711", "gloo: timeout"])
def test_a_lost_process_is_told_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    error = RuntimeError(said)
    assert explained(error) is None
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert str(explained(error)).endswith("ended; go on with --resume once that is mended")


def test_other_processes_speak_only_where_the_first_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(failures.time, "sleep", waited.append)
    await_turn(ValueError())
    monkeypatch.setenv("RANK", "1")
    await_turn(ValueError())
    await_turn(dist.DistError())
    assert waited == [failures.TURN, failures.TURN_OF_SURVIVORS]
    monkeypatch.setenv("MGD_SSL_PARENT", "1")  # which is gone
    await_turn(ValueError())
    assert len(waited) == 2


@pytest.mark.parametrize(
    ("program", "environment", "expected"),
    [
        (["pretrain.py"], {}, "python pretrain.py DATA --out 'my runs/a' --resume"),
        (["/env/bin/mgd-ssl", "pretrain"], {}, "mgd-ssl pretrain DATA --out 'my runs/a' --resume"),
        (
            ["/src/mgd_ssl/__main__.py", "pretrain"],
            {},
            "python -m mgd_ssl pretrain DATA --out 'my runs/a' --resume",
        ),
        (
            ["pretrain.py"],
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4"},
            "torchrun --nproc_per_node=4 pretrain.py DATA --out 'my runs/a' --resume",
        ),
        (
            ["pretrain.py"],
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"},
            "torchrun --nnodes=2 --nproc_per_node=4 pretrain.py DATA --out 'my runs/a' --resume",
        ),
        (
            ["pretrain.py"],
            {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"},
            "srun python pretrain.py DATA --out 'my runs/a' --resume",
        ),
    ],
)
def test_a_run_goes_on_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch,
    program: list[str],
    environment: dict[str, str],
    expected: str,
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [*program, *RUN])
    assert again("pretrain", None if len(program) == 1 else RUN) == expected


def test_a_run_of_a_program_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--epochs", "3"])
    expected = "python -m mgd_ssl classify DATA --out 'my runs/a' --resume"
    assert again("classify", RUN) == expected
