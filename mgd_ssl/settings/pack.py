"""Options of ``mgd-ssl pack``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from mgd_ssl.settings.options import Data, FolderOptions


@dataclass(frozen=True)
class PackConfig(FolderOptions):
    """Write DATA as tar shards, which every command takes as DATA.

    A command that was stopped goes on where it was when it is given again.
    """

    data: Data = None
    """Images of any kind that the other commands take. [the embedded data]"""
    out: Path = Path("shards")
    """Folder of the shards: train/ and val/ with 000000.tar, 000001.tar, …"""
    size: int | None = None
    """Resize larger images to this shorter side, in pixels, and encode them as JPEG. [every image
    stays as it is, byte for byte]"""
    quality: int = 95
    """Of the JPEG files that --size writes, 1 to 100."""
    shard_images: int | None = None
    """Images in each shard. [as many as take about 256 MiB]"""
    workers: Annotated[int | None, arg(aliases=["-j"])] = None
    """Shards that are written at once. [8, or as many as there are cores]"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "shard_images", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: got {self.quality}, expected 1 to 100")
        if self.size is None and self.quality != 95:
            raise ValueError(
                f"quality: got --quality {self.quality}, which has no effect without --size; leave "
                "it out, or say --size"
            )
