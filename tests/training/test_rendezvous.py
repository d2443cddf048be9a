"""Where processes meet, and what is refused before they start."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from mgd_ssl.process import local_processes
from mgd_ssl.settings.options import DeviceOptions
from mgd_ssl.training import devices
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.rendezvous import find_world, main_port

TASK = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
SRUN = TASK | {"SLURM_STEP_ID": "0", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that nobody started processes in."""
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK")
    for name in (*names, "WORLD_SIZE", "OMP_NUM_THREADS", "SLURM_NTASKS_PER_NODE", *SRUN):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setenv("MASTER_PORT", str(taken))
    with pytest.raises(ValueError, match=rf"port {taken} cannot be used.*unset MASTER_PORT"):
        start_fabric(DeviceOptions(accelerator="cpu", devices=2))
    monkeypatch.delenv("MASTER_PORT")
    assert main_port(free_if_unset=True) != taken


@pytest.mark.parametrize("told", ["abc", "0", "70000", ""])
def test_what_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("MASTER_PORT", told)
    with pytest.raises(ValueError, match=r"MASTER_PORT: got .*, expected a number"):
        main_port(free_if_unset=True)


def test_machines_that_are_not_told_where_they_meet_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"got 2, and MASTER_ADDR, MASTER_PORT, NODE_RANK not"):
        start_fabric(DeviceOptions(accelerator="cpu", num_nodes=2))
    set_all(monkeypatch, {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4711", "NODE_RANK": "1"})
    assert (find_world(2, 2).devices, find_world(2, 2).nodes) == (2, 2)


@pytest.mark.parametrize(
    "more",
    [
        {"SLURM_JOB_NAME": "bash", "SLURM_STEP_ID": "0"},
        {"SLURM_JOB_NAME": "interactive", "SLURM_STEP_ID": "4294967290"},
        {"SLURM_JOB_NAME": "mine", "SLURM_STEP_ID": "4294967290"},  # salloc
        {"SLURM_JOB_NAME": "mine.sh"},  # a batch script without srun
    ],
)
def test_a_shell_in_an_allocation_runs_one_process(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    set_all(monkeypatch, TASK | {"SLURM_PROCID": "0"} | more)
    fabric = start_fabric(DeviceOptions(accelerator="cpu"))
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_tasks_of_srun_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SRUN)
    world = find_world(1, 1)
    assert (world.devices, world.nodes, world.started) == (2, 2, True)
    assert isinstance(world.environment, SLURMEnvironment)
    assert world.environment.world_size() == 4 and local_processes() == 2


@pytest.mark.parametrize(
    ("more", "asked", "message"),
    [
        ({}, (4, 1), "started 4 tasks on 2 machines, and --devices 4 --num-nodes 1 are 4"),
        ({"SLURM_NNODES": "1"}, (2, 1), "leave both out, or give srun --nodes=1 --ntasks-per-nod"),
        ({"SLURM_NNODES": "3"}, (1, 1), "4 tasks on 3 machines, expected as many on each"),
    ],
)
def test_tasks_of_srun_that_disagree_are_refused(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, str], asked: tuple[int, int], message: str
) -> None:
    set_all(monkeypatch, SRUN | more)
    with pytest.raises(ValueError, match=message):
        find_world(*asked)


def test_processes_that_torchrun_started_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6", "LOCAL_RANK": "0"})
    world = find_world(1, 1)
    assert (world.devices, world.nodes, world.started) == (2, 3, True)
    assert isinstance(world.environment, LightningEnvironment)  # this project's own
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert find_world(1, 1).environment is None


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"got cuda, and torch finds no GPU.*--accelerator cpu"):
        start_fabric(DeviceOptions(accelerator="cuda"))


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="devices: got 3, expected at most the 2 GPUs"):
        start_fabric(DeviceOptions(accelerator="cuda", devices=3))


@pytest.mark.parametrize(
    ("asked", "told", "processes", "expected"),
    [(3, None, 1, 3), (None, None, 1, 8), (None, None, 4, 2), (None, "5", 1, 5)],
)
def test_threads_are_the_cores_shared_among_the_processes(
    monkeypatch: pytest.MonkeyPatch,
    asked: int | None,
    told: str | None,
    processes: int,
    expected: int,
) -> None:
    monkeypatch.setattr(devices.process, "cores", lambda: 8)
    monkeypatch.setattr(devices.process, "local_processes", lambda: processes)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert devices.threads_of(asked) == expected


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads: got 0, expected 1 to"):
        start_fabric(DeviceOptions(accelerator="cpu", threads=0))


def test_threads_are_what_is_asked() -> None:
    code = """
import torch
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.settings.options import DeviceOptions
start_fabric(DeviceOptions(accelerator="cpu", threads=3))
print(torch.get_num_threads())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "3\n"
