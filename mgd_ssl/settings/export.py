"""Options of ``mgd-ssl export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from mgd_ssl.models import find_checkpoint


@dataclass(frozen=True)
class ExportConfig:
    """Write a backbone or a RetinaNet for Detectron2: a .pkl, and its configuration beside it."""

    checkpoint: Positional[Path]
    """A backbone's or a detector's: of this project, or any that its commands take."""
    to: Literal["detectron2"] = "detectron2"
    """The layout to write."""
    out: Path | None = None
    """File to write. [the checkpoint's name, ending in .detectron2.pkl]"""
    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """The backbone, where it is a MODULE:FUNCTION of your own. [as the checkpoint says]"""

    def __post_init__(self) -> None:
        if self.path.suffix != ".pkl":
            raise ValueError(f"out: got {self.path}, expected a name that ends in .pkl")
        if self.path == self.checkpoint:
            raise ValueError(f"out: got {self.path}, the checkpoint itself; expected another name")

    @property
    def path(self) -> Path:
        """The file to write."""
        return self.out or find_checkpoint(self.checkpoint).with_suffix(".detectron2.pkl")
