"""Where the processes of a run meet: torchrun, SLURM, several machines, a port of this one."""

import logging
import os
import socket
from dataclasses import dataclass

from mgd_ssl import process
from mgd_ssl.fabric import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
)

logger = logging.getLogger(__name__)
MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        devices: processes on this machine.
        nodes: machines.
        environment: how Fabric finds its rank; None leaves it to Fabric.
        started: whether all processes are there already.
    """

    devices: int
    nodes: int
    environment: ClusterEnvironment | None = None
    started: bool = False


def find_world(devices: int, nodes: int) -> World:
    """The run's processes: those that torchrun, srun or this project started, else as asked.

    Raises:
        ValueError: the options and what started the processes disagree, or machines that are to
            work together are not told where they meet.
    """
    if devices < 1 or nodes < 1:
        raise ValueError(f"got {devices} devices and {nodes} nodes, expected at least 1 of each")
    if "LOCAL_WORLD_SIZE" in os.environ:
        here = process.local_processes()
        ours = LightningEnvironment() if "TORCHELASTIC_RUN_ID" not in os.environ else None
        return World(here, int(os.environ["WORLD_SIZE"]) // here, ours, started=True)
    if process.started_by_srun():
        return _srun_world(devices, nodes)
    if "SLURM_NTASKS" in os.environ:  # a shell or a script in an allocation
        _say_unused_tasks(devices * nodes)
        _check_meeting(nodes)
        return World(devices, nodes, LightningEnvironment(), started="LOCAL_RANK" in os.environ)
    _check_meeting(nodes)
    return World(devices, nodes, started="LOCAL_RANK" in os.environ)


def main_port(*, free_if_unset: bool) -> int:
    """The port at which this machine's first process awaits the others.

    Raises:
        ValueError: MASTER_PORT is no port, or is in use.
    """
    told = os.environ.get("MASTER_PORT")
    if told is None and free_if_unset:
        return _bind(0)
    try:
        port = int(told or "")
        if not 0 < port < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(f"MASTER_PORT: got {told!r}, expected a number from 1 to 65535") from None
    if int(os.environ.get("NODE_RANK", "0")) == 0:
        _check_free(port)
    return port


def _check_free(port: int) -> None:
    try:
        _bind(port)
    except OSError as error:
        raise ValueError(
            f"MASTER_PORT: port {port} cannot be used ({error.strerror}), expected a free one; "
            "choose another, or leave MASTER_PORT out: unset MASTER_PORT"
        ) from error


def _bind(port: int) -> int:
    """Take a port for a moment; which one it was."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("", port))
        taken.listen()
        return int(taken.getsockname()[1])


def _srun_world(devices: int, nodes: int) -> World:
    tasks = int(os.environ["SLURM_NTASKS"])
    machines = int(os.environ.get("SLURM_STEP_NUM_NODES") or os.environ.get("SLURM_NNODES") or "1")
    if tasks % machines:
        raise ValueError(
            f"srun started {tasks} tasks on {machines} machines, expected as many on each; "
            "give srun --ntasks-per-node"
        )
    here = tasks // machines
    if devices * nodes > 1 and (devices, nodes) != (here, machines):
        raise ValueError(
            f"srun started {tasks} tasks on {machines} machines, and --devices {devices} "
            f"--num-nodes {nodes} are {devices * nodes}, expected the same; leave both out, or "
            f"give srun --nodes={nodes} --ntasks-per-node={devices}"
        )
    os.environ |= {"SLURM_NTASKS_PER_NODE": str(here), "SLURM_NNODES": str(machines)}
    return World(here, machines, SLURMEnvironment(auto_requeue=False), started=True)


def _say_unused_tasks(processes: int) -> None:
    tasks = os.environ["SLURM_NTASKS"]
    if tasks != str(processes):
        logger.warning(
            "SLURM granted %s tasks, and srun did not start this program: it runs %d. Start it "
            "with srun to use them all",
            *(tasks, processes),
        )


def _check_meeting(nodes: int) -> None:
    missing = [name for name in MEETING if name not in os.environ]
    if nodes > 1 and missing:
        raise ValueError(
            f"num_nodes: got {nodes}, and {', '.join(missing)} not set, by which the machines find "
            f"each other; start it on each with torchrun --nnodes={nodes} --nproc_per_node=… "
            "--rdzv_backend=c10d --rdzv_endpoint=HOST:PORT, or with srun"
        )
