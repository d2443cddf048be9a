"""Options of ``mgd-ssl duplicates``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from mgd_ssl.ranges import require_least
from mgd_ssl.settings.options import Data, FolderOptions
from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class DuplicatesConfig(FolderOptions, Settings):
    """Count the validation images of DATA that are also training images, or look like one."""

    data: Data = None
    """Images of any kind that the other commands take. None: the embedded data."""
    near: int = 8
    """Images look alike where at most this many of 128 bits differ: up to 8 for the same picture
    in another size or compression; -1 compares files alone."""
    out: Path | None = None
    """Table to write, a line for each pair, ending in .csv. None: none."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Images that are decoded at once, at most one for each core."""

    def check(self) -> None:
        """Refuse what is out of range."""
        require_least(self, near=-1, workers=1)
        if self.near > 127:
            raise ValueError(f"near: got {self.near}, expected -1 to 127 bits of 128")
        if self.out is not None and self.out.suffix != ".csv":
            raise ValueError(f"out: got {self.out}, expected a name that ends in .csv")
