"""Fabric from the options: one process unless told otherwise, torchrun and SLURM followed."""

import os

import torch
from lightning.fabric import Fabric
from torch import nn

from mgd_ssl import process
from mgd_ssl.commands.options import ComputeOptions, DeviceOptions
from mgd_ssl.models.compiling import compile_parts

PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def start_fabric(options: DeviceOptions) -> Fabric:
    """Start this run's processes, or join those that torchrun or SLURM started."""
    devices, nodes = options.devices, options.num_nodes
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if devices < 1 or nodes < 1:
        raise ValueError(f"got {devices} devices and {nodes} nodes, expected at least 1 of each")
    strategy: str = options.strategy
    if strategy == "auto" and devices * nodes > 1:
        strategy = "ddp"
    fabric = Fabric(
        accelerator=_accelerator(options.accelerator),
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=PRECISION[options.precision],
    )
    if strategy == "dp" and fabric.device.type != "cuda":
        raise ValueError(
            f"strategy: got dp on {fabric.device.type}, expected cuda; use --strategy ddp"
        )
    threads = threads_of(options.threads)
    fabric.launch()
    torch.set_num_threads(threads)
    return fabric


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
        ValueError: fewer than one is asked.
    """
    if asked is not None and asked < 1:
        raise ValueError(f"threads: got {asked}, expected 1 or more")
    if asked is None and "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    return asked or max(1, process.cores() // process.local_processes())


def place(network: nn.Module, options: ComputeOptions, device: torch.device) -> None:
    """Put a network that is only run on its device, laid out and compiled as the options say."""
    network.to(device)
    if options.channels_last:
        network.to(memory_format=torch.channels_last)
    if options.compile:
        compile_parts(network)
