"""Options of ``mgd-ssl export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro
from tyro.conf import Positional, arg

from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class ExportConfig(Settings):
    """Write a backbone or a RetinaNet for Detectron2: a .pkl, and its configuration beside it."""

    EXAMPLE: ClassVar = "mgd-ssl export runs/resnet18/checkpoints/last.pt --to detectron2"

    checkpoint: Positional[Path] = tyro.MISSING
    """A backbone or a detector, from any file that the other commands accept."""
    to: Literal["detectron2"] = "detectron2"
    """Layout of the file."""
    out: Path | None = None
    """Output file. None: the checkpoint's name with the ending .detectron2.pkl."""
    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """MODULE:FUNCTION of your own backbone. None: as recorded in the checkpoint."""

    def check(self) -> None:
        """Refuse other kinds of files, and the checkpoint itself."""
        if self.out and self.out.suffix != ".pkl":
            raise ValueError(f"out: got {self.out}, expected a name that ends in .pkl")
        if self.out == self.checkpoint:
            raise ValueError(f"out: got {self.out}, the checkpoint itself; expected another name")
