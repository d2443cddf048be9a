"""Options of ``mgd-ssl duplicates``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from mgd_ssl.ranges import require_least
from mgd_ssl.settings.options import Data, FolderOptions
from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class DuplicatesConfig(FolderOptions, Settings):
    """Count the validation images of DATA that equal or resemble a training image."""

    EXAMPLE: ClassVar = "mgd-ssl duplicates photos --out pairs.csv"

    data: Data = ()
    """Images in any form that the other commands accept, in one place or several. None: the
    embedded data."""
    near: int = 8
    """Images are alike if at most this many of the 128 bits of their perceptual hashes differ. 8
    finds the same picture in another size or compression. -1: compare only files."""
    out: Path | None = None
    """CSV file that lists the pairs. None: no list."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Images decoded at once, at most one per core."""

    def check(self) -> None:
        """Refuse values out of range."""
        require_least(self, near=-1, workers=0)
        if self.near > 127:
            raise ValueError(f"near: got {self.near}, expected -1 to 127 bits of 128")
        if self.out is not None and self.out.suffix != ".csv":
            raise ValueError(f"out: got {self.out}, expected a name that ends in .csv")
