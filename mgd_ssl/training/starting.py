"""What comes before a run is built: the log, the processes, the seed."""

from dataclasses import replace
from typing import TypeVar

import torch

from mgd_ssl.distributed import from_first
from mgd_ssl.fabric import Fabric
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.training.devices import settled, start_fabric
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.naming import refuse_resumed_path, with_directory
from mgd_ssl.training.run_directory import RunDirectory
from mgd_ssl.training.same_run import refuse_own_sources

Config = TypeVar("Config", bound=RunConfig)


def start_run(config: Config) -> tuple[Config, Fabric]:
    """Start the log, the processes and torch's generator; a run is built after it.

    Returns:
        The settings with the run's directory and the precision that was found, and the processes.

    Raises:
        ValueError: ``--overwrite`` would delete what the run is to read, ``--resume`` was given a
            path, or the directory is refused; see `RunDirectory.open`.
    """
    start_logging()
    refuse_resumed_path(config)
    if config.overwrite:
        refuse_own_sources(config)
    asked, config = config.device.precision, replace(config, device=settled(config.device))
    fabric = start_fabric(config.device)
    if asked == "auto" and config.device.precision == "bf16" and fabric.is_global_zero:
        logger.info("bf16 and channels-last, which this device computes in (--precision 32: not)")
    torch.manual_seed(config.seed)
    config = with_directory(config)
    if not getattr(config, "dry_run", False):
        directory = RunDirectory(config.out)
        from_first(lambda: directory.look(resume=config.resume, overwrite=config.overwrite))
    return config, fabric
