"""Options of ``mgd-ssl export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class ExportConfig(Settings):
    """Write a backbone or a RetinaNet for Detectron2: a .pkl, and its configuration beside it."""

    checkpoint: Positional[Path] = tyro.MISSING
    """A backbone's or a detector's: of this project, or any that its commands take."""
    to: Literal["detectron2"] = "detectron2"
    """The layout to write."""
    out: Path | None = None
    """File to write. None: the checkpoint's name, ending in .detectron2.pkl."""
    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """The backbone, where it is a MODULE:FUNCTION of your own. None: as the checkpoint says."""

    def check(self) -> None:
        """Refuse a file of another kind, and the checkpoint itself."""
        if self.out and self.out.suffix != ".pkl":
            raise ValueError(f"out: got {self.out}, expected a name that ends in .pkl")
        if self.out == self.checkpoint:
            raise ValueError(f"out: got {self.out}, the checkpoint itself; expected another name")
