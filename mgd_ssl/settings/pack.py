"""Options of ``mgd-ssl pack``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from mgd_ssl.ranges import require_least
from mgd_ssl.settings.options import Data, FolderOptions
from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class PackConfig(FolderOptions, Settings):
    """Write DATA as tar shards, which every command takes as DATA.

    Repeat a command that was stopped to continue it.
    """

    EXAMPLE: ClassVar = "mgd-ssl pack photos --out shards --size 256"

    data: Data = ()
    """Images in any form that the other commands accept, in one place or several. None: the
    embedded data."""
    out: Path = Path("shards")
    """Folder for the shards: train/ and val/ with 000000.tar, 000001.tar, …"""
    size: int | None = None
    """Resize larger images to this shorter side, in pixels, and encode them as JPEG. None: copy
    every image byte for byte."""
    quality: int = 95
    """JPEG quality with --size, 1 to 100."""
    shard_images: int | None = None
    """Images per shard. None: about 256 MiB of images."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Shards written at once, at most one per core."""

    def check(self) -> None:
        """Refuse values out of range, and a quality without effect."""
        require_least(self, size=1, shard_images=1, workers=1)
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: got {self.quality}, expected 1 to 100")
        if self.size is None and self.quality != 95:
            raise ValueError(
                f"quality: got --quality {self.quality}, which has no effect without --size; leave "
                "it out, or say --size"
            )
