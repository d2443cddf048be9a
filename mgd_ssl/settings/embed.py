"""Options of ``mgd-ssl embed``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro
from tyro.conf import Positional, arg

from mgd_ssl.choices import FEATURE_FILES
from mgd_ssl.ranges import require_least
from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.evaluation import Features
from mgd_ssl.settings.options import BackboneOptions, Data, DeviceOptions, FolderOptions
from mgd_ssl.settings.rules import STEM_STRIDE
from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """Write the features of images, with their file names, and their labels if there are any.

    Repeat a command that was stopped to continue it.
    """

    MAIN: ClassVar = (
        *("checkpoint", "data", "out", "split", "features", "size", "batch_size", "workers"),
        "devices",
    )
    EXAMPLE: ClassVar = (
        "mgd-ssl embed runs/resnet18/checkpoints/last.pt photos --out photos.parquet"
    )

    checkpoint: Positional[Path] = tyro.MISSING
    """Any checkpoint that --teacher of pretrain.py accepts, such as a run's last.pt."""
    data: Data = ()
    """Images in any form that the other commands accept, in one place or several. None: the
    embedded images."""
    out: Path = Path("features.npz")
    """Output file, a .npz, .parquet or .safetensors."""
    split: Literal["all", "train", "val"] = "all"
    """Part of DATA; all: train images, then val images if there are any."""
    features: Features = "pooled"
    """pooled: what the network pools; cls: the class token; cls+patches: the class token and the
    mean of the patch tokens. The last two need a network with a class token, such as DINOv2."""
    size: int = 0
    """Side of the network's input images, in pixels. 0: as recorded in the checkpoint, else 224 (32
    on embedded images)."""
    batch_size: Annotated[int, arg(aliases=["-b"])] = 256
    """Images that the network sees at once, in each process."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Decoding processes per process, at most its number of cores; none for data in memory."""
    exif: bool = True
    """Apply the EXIF orientation; --no-exif uses images as stored, as torchvision does."""
    folders: FolderOptions = field(default_factory=FolderOptions)
    network: BackboneOptions = field(default_factory=BackboneOptions)
    device: DeviceOptions = field(default_factory=lambda: DeviceOptions(precision="32"))

    def check(self) -> None:
        """Refuse values out of range, and files of an unknown kind."""
        require_least(self, size=0, batch_size=1, workers=0)
        if self.out.suffix not in FEATURE_FILES:
            raise ValueError(
                f"out: got {self.out}, expected a name that ends in {', '.join(FEATURE_FILES)}"
            )

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return [STEM_STRIDE]
