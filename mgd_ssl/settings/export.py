"""Options of ``mgd-ssl export``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional

from mgd_ssl.choices import EXPORT_TARGETS
from mgd_ssl.ranges import require_least
from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.options import BackboneOptions, Data, FolderOptions, one_of
from mgd_ssl.settings.rules import STEM_STRIDE
from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class ExportConfig(Settings):
    """Write a network for another library, with a model card and a table of differences.

    The file is loaded again in that library, and kept only if both networks agree on some images.
    """

    EXAMPLE: ClassVar = "mgd-ssl export runs/resnet18/checkpoints/last.pt --to timm"

    checkpoint: Positional[Path] = tyro.MISSING
    """A backbone, classifier or detector, from any file that the other commands accept."""
    data: Data = ()
    """Images to compare the networks on, a few of which are used. None: the embedded images."""
    to: Annotated[str, one_of(EXPORT_TARGETS)] = "safetensors"
    """torchvision, timm: weights that load with strict=True; safetensors: for
    mgd_ssl.load_backbone, any network; onnx: ONNX; pt2: torch.export; detectron2: ResNets and
    RetinaNets."""
    out: Path | None = None
    """Output file. None: beside the checkpoint, as last.onnx."""
    size: int = 0
    """Side of the input images, in pixels. 0: as recorded in the checkpoint, else 224 (32 on
    embedded images)."""
    folders: FolderOptions = field(default_factory=FolderOptions)
    network: BackboneOptions = field(default_factory=BackboneOptions)

    def check(self) -> None:
        """Refuse values out of range, and the checkpoint itself."""
        require_least(self, size=0)
        if self.out == self.checkpoint:
            raise ValueError(f"out: got {self.out}, the checkpoint itself; expected another name")

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return [STEM_STRIDE]
