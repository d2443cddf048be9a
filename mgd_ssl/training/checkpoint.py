"""Checkpoints, and the directory of a run."""

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mgd_ssl.files import write_text, write_whole
from mgd_ssl.models import BackboneSpec, read_checkpoint

LAST, BEST = "last.pt", "best.pt"
CONFIG = "config.yaml"


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Save tensors and plain values; see `write_whole`."""
    write_whole(path, lambda file: torch.save(dict(content), file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, tensors and plain values only.

    Raises:
        ValueError: the file is missing, truncated or of another kind.
    """
    content, _ = read_checkpoint(path)
    if "progress" not in content:
        raise ValueError(
            f"resume: {path} is no checkpoint of a run of this project; give a run's "
            "checkpoints/last.pt, or give other projects' files to --teacher"
        )
    return content


def export_student(
    path: Path,
    state: Mapping[str, Tensor],
    spec: BackboneSpec,
    normalisation: Mapping[str, Any],
    size: int,
) -> None:
    """Write a backbone as safetensors, with the keys of torchvision or timm and no head."""
    metadata = {
        "backbone": json.dumps(spec.to_dict()),
        "normalisation": json.dumps(normalisation),
        "size": str(size),
    }
    content = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    write_whole(path, lambda file: file.write(to_safetensors(content, metadata)))


class RunDirectory:
    """``runs/NAME/``: refused when it holds a run, locked while it is in use.

    Attributes:
        path: the directory.
        checkpoints: its folder of checkpoints.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock: IO[str] | None = None

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Take the directory for a run.

        Raises:
            ValueError: it is in use, or it holds something and neither flag is given, or
                ``overwrite`` would delete what is no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out: {self.path} is a file, expected a directory")
        held = self.path.is_dir() and any(p.name != ".lock" for p in self.path.iterdir())
        if held and not (resume or overwrite):
            raise ValueError(
                f"out: {self.path} is not empty, expected a new directory; go on with --resume, "
                "start anew with --overwrite, or name another with --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire()
        if held and overwrite and not resume:
            self._clear()

    def _acquire(self) -> None:
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"out: {self.path} is in use by another run; wait for it, stop it, or name another "
                "directory with --out"
            ) from error

    def _clear(self) -> None:
        if not (self.path / CONFIG).is_file():
            raise ValueError(
                f"out: {self.path} holds no {CONFIG}, so it is no run and is not deleted; name "
                "another directory with --out"
            )
        for entry in self.path.iterdir():
            if entry.name == ".lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved settings to ``config.yaml``."""
        text = yaml.safe_dump(dict(config), sort_keys=False)
        write_text(self.path / CONFIG, text)

    def close(self) -> None:
        """Give the directory back."""
        if self._lock:
            self._lock.close()
            self._lock = None
