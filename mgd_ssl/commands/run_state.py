"""Whether a checkpoint is of the same run as the one that would go on from it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgd_ssl.commands.options import to_dict
from mgd_ssl.commands.run_config import RunConfig

# What may differ between a run and its resumption: nothing here changes the weights, but for
# rounding on another device or number of processes.
FREE_TO_CHANGE = ("out", "resume", "overwrite", "print_freq", "save_every", "device", "evaluation")


def check_same_run(
    config: RunConfig,
    content: Mapping[str, Any],
    teacher: str | None,
    steps_per_epoch: int,
    path: Path,
) -> None:
    """Refuse to go on with other settings than the checkpoint's.

    Args:
        config: of the run that would go on.
        content: of the checkpoint.
        teacher: digest of the teacher's weights.
        steps_per_epoch: of the run that would go on.
        path: where the checkpoint's settings stand.

    Raises:
        ValueError: names what differs.
    """
    now, before = (_bound(c) for c in (to_dict(config), content["config"]))
    changed = [name for name in now if now[name] != before.get(name)]
    if content["teacher"] != teacher:
        changed.append("teacher's weights")
    if content["steps_per_epoch"] != steps_per_epoch:
        changed.append("number of images")
    if changed:
        raise ValueError(
            f"resume: the settings differ from the run's: {', '.join(changed)}; give the same "
            f"as {path}, or start anew in another --out"
        )


def _bound(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a resumption may not change."""
    bound = {k: v for k, v in config.items() if k not in FREE_TO_CHANGE}
    bound["loader"] = {k: v for k, v in config["loader"].items() if k != "workers"}
    bound["precision"] = config["device"]["precision"]
    return bound


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict's names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
