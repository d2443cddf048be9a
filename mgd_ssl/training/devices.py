"""Fabric from the options: one process unless told otherwise, torchrun and SLURM followed."""

import inspect
import logging
import os
from datetime import timedelta

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mgd_ssl import process
from mgd_ssl.fabric import Autocast, DDPStrategy, Fabric
from mgd_ssl.models import FeatureReader
from mgd_ssl.models.compiling import compile_parts, tapped_modules
from mgd_ssl.settings.options import ComputeOptions, DeviceOptions
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.launch import launch, watch_parent
from mgd_ssl.training.precision import Options, find_precision
from mgd_ssl.training.rendezvous import find_world

THREADS_A_CORE = 16
# The others wait while the first process lists millions of files, or reads a whole teacher cache.
PATIENCE = timedelta(hours=6)
MIXED = {"bf16": "bf16-mixed", "fp16": "16-mixed"}  # precisions, as Fabric calls them
# Not sent at each step: queues, margins and assignments are equal on all ranks by construction, and
# norms' statistics are taken from the first rank where they count.
BUFFERS_STAY = (
    {"forward_sync_buffers": False}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else {"broadcast_buffers": False}
)
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # every process says it starts


def settled(options: Options) -> Options:
    """The options with the precision that the device computes in; see `find_precision`.

    Raises:
        ValueError: the device is refused.
    """
    return find_precision(options, _accelerator(options.accelerator))


def start_fabric(options: DeviceOptions) -> Fabric:
    """Start this run's processes, or join those that torchrun or SLURM started."""
    options = settled(options)
    world = find_world(options.devices, options.num_nodes)
    accelerator = _accelerator(options.accelerator)
    _check_devices(accelerator, world.devices)
    several = world.devices * world.nodes > 1
    if several and not world.started:
        launch(world.devices, world.nodes)
        world = find_world(world.devices, world.nodes)
    watch_parent()
    threads = threads_of(options.threads)
    mixed = MIXED.get(options.precision)
    precision = Autocast(mixed, accelerator) if mixed else None
    fabric = Fabric(
        accelerator=accelerator,
        devices=world.devices,
        num_nodes=world.nodes,
        strategy=DDPStrategy(timeout=PATIENCE, **BUFFERS_STAY) if several else "auto",
        plugins=[plugin for plugin in (world.environment, precision) if plugin],
    )
    fabric.launch()
    torch.set_num_threads(threads)
    return fabric


def _check_devices(accelerator: str, devices: int) -> None:
    """Refuse more GPUs than there are."""
    if accelerator != "cuda":
        return
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there == 0:
        raise ValueError(
            "accelerator: got cuda, and torch finds no GPU; expected one and its driver, and a "
            "build of torch for CUDA (nvidia-smi, CUDA_VISIBLE_DEVICES); or use --accelerator cpu"
        )
    if devices > there:
        raise ValueError(
            f"devices: got {devices}, expected at most the {there} GPUs of this machine"
        )


def _accelerator(name: str) -> str:
    """CUDA where it is there, else the CPU, for auto; MPS is refused."""
    if name == "mps":
        raise ValueError(
            "accelerator: got mps, which has no float64, in which costs of the matching are "
            "summed; expected cuda or cpu: --accelerator cpu"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def threads_of(asked: int | None) -> int:
    """Threads of this process: as asked, else as OMP_NUM_THREADS says, else its share of the cores.

    Raises:
        ValueError: fewer than one is asked, or more than make sense.
    """
    most = THREADS_A_CORE * (os.cpu_count() or 1)  # very many end in a segmentation fault
    if asked is not None and not 1 <= asked <= most:
        raise ValueError(
            f"threads: got {asked}, expected 1 to {most}, {THREADS_A_CORE} for each core"
        )
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # one number a nested level
    if asked is None and said.isdecimal() and int(said):
        return int(said)
    return asked or max(1, process.cores() // process.local_processes())


def place(
    network: nn.Module,
    options: ComputeOptions,
    device: torch.device,
    reader: FeatureReader | None = None,
) -> None:
    """Put a network that is only run on its device, laid out and compiled as the options say.

    What ``reader`` reads of it is not compiled.
    """
    network.to(device)
    if options.channels_last:
        network.to(memory_format=torch.channels_last)
    if options.compile:
        compile_parts(network, tapped_modules(reader))


def convert_sync_bn(task: Task, fabric: Fabric) -> None:
    """Let the student's and the adapters' batch norms take their statistics over all processes.

    Raises:
        ValueError: on the CPU, where torch has no such norm.
    """
    if fabric.device.type != "cuda":
        raise ValueError(
            f"sync_bn: got the device {fabric.device.type}, expected cuda, for which alone torch "
            "synchronizes batch norms; leave --sync-bn out"
        )
    task.student = nn.SyncBatchNorm.convert_sync_batchnorm(task.student)
    if task.distiller:
        task.distiller = nn.SyncBatchNorm.convert_sync_batchnorm(task.distiller)


def compile_task(task: Task) -> int:
    """Compile the networks' blocks that no tap stands in; returns how many."""
    teacher = task.teacher
    parts = compile_parts(task.student, tapped_modules(task.reader))
    for network, _ in task.frozen():
        reader = teacher.reader if teacher and network is teacher.network else None
        parts += compile_parts(network, tapped_modules(reader))
    return parts
