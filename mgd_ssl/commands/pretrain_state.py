"""What a pretraining run is made of, into a checkpoint and out of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mgd_ssl.commands.options import to_dict
from mgd_ssl.commands.pretrain_config import PretrainConfig
from mgd_ssl.models import BackboneSpec
from mgd_ssl.objectives import Pretraining

# What may differ between a run and its resumption: nothing here changes the weights.
FREE_TO_CHANGE = ("out", "resume", "overwrite", "print_freq", "save_every", "device", "evaluation")


def networks_content(config: PretrainConfig, task: Pretraining) -> dict[str, Any]:
    """facebookresearch/moco's ``arch`` and ``state_dict``, and beside them what they lack."""
    spec, loader = cast(BackboneSpec, task.moco.encoder_q.spec), config.loader
    return {
        "arch": config.network.arch,
        "state_dict": {f"module.{k}": v for k, v in task.moco.state_dict().items()},
        "distiller": task.distiller.state_dict() if task.distiller else None,
        "backbone": spec.to_dict(),
        "normalisation": {"mean": list(loader.mean), "std": list(loader.std)},
        "size": loader.size,
        "config": to_dict(config),
    }


def restore_networks(task: Pretraining, content: Mapping[str, Any]) -> None:
    """Counterpart of `networks_content`."""
    state = {k.removeprefix("module."): v for k, v in content["state_dict"].items()}
    task.moco.load_state_dict(state)
    if task.distiller:
        task.distiller.load_state_dict(content["distiller"])


def check_same_run(
    config: PretrainConfig,
    content: Mapping[str, Any],
    teacher_digest: str | None,
    steps_per_epoch: int,
    path: Path,
) -> None:
    """Refuse to go on with other settings than the checkpoint's; ``path`` is where those stand.

    Raises:
        ValueError: names what differs.
    """
    now, before = (_bound(c) for c in (to_dict(config), content["config"]))
    changed = [name for name in now if now[name] != before.get(name)]
    if content["teacher"] != teacher_digest:
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
    return bound


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
