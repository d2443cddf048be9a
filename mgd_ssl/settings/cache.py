"""Options of ``mgd-ssl cache``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from tyro.conf import arg

from mgd_ssl.ranges import require_least
from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.inherited import STORED_GRID, told_by, usual_teacher_size
from mgd_ssl.settings.options import Data, DeviceOptions, FolderOptions, TeacherOptions
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER
from mgd_ssl.settings.settings import Settings
from mgd_ssl.settings.views import PRESETS


@dataclass(frozen=True)
class CacheConfig(FolderOptions, Settings):
    """Store a teacher's answers to random views of each training image of DATA.

    pretrain.py and mgd-ssl classify then train with --teacher-cache, without running the teacher.
    Repeat a command that was stopped to continue it; with more --views it adds views.
    """

    MAIN: ClassVar = (
        *("data", "teacher", "out", "views", "maps", "grid", "size", "batch_size", "workers"),
        *("devices", "precision"),
    )
    EXAMPLE: ClassVar = "mgd-ssl cache photos --teacher dinov2_vits14_pretrain.pth --out cache"

    data: Data = ()
    """Images in any form that the other commands accept, in one place or several. None: the
    embedded data."""
    out: Path = Path("cache")
    """Folder for the cache."""
    views: int = 20
    """Views stored of each image; a run with more epochs sees them again."""
    grid: int = STORED_GRID
    """Largest side of a stored map; larger ones are averaged to it. 0: maps as they are."""
    maps: bool = True
    """Store the maps for the matching; --no-maps stores the pooled output alone."""
    size: int = 224
    """Side of a view, in pixels."""
    crop_min: float = PRESETS["crops"].crop_min
    """Smallest area of a crop, as a share of the image."""
    crop_max: float = 1.0
    """Largest area of a crop, as a share of the image."""
    flip_p: float = 0.5
    """Probability of a horizontal flip."""
    seed: int = 0
    """Seed of the crops and flips."""
    batch_size: Annotated[int, arg(aliases=["-b"])] = 128
    """Images that the teacher sees at once, in each process."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Decoding processes per process, at most its number of cores; none for data in memory."""
    bad_images: float = 0.01
    """Stop if more than this share of the images cannot be decoded."""
    exif: bool = True
    """Apply the EXIF orientation; --no-exif uses images as stored, as torchvision does."""
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """Size, as far as the teacher's file records it."""
        given = {k: said.get(f"teacher_{k}") for k in ("arch", "width", "stem", "stem_stride")}
        return told_by(said.get("teacher"), given, None)

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The defaults for a user's data, or for the embedded data."""
        embedded = not said.get("data")
        teacher = said.get("teacher") or (EMBEDDED_TEACHER if embedded else None)
        size = said.get("size", 32 if embedded else 224)
        return cls(
            data=said.get("data", ()),
            teacher=TeacherOptions(
                teacher, teacher_size=usual_teacher_size(said, size, stored=True)
            ),
            size=size,
        )

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        of_maps = ["grid", "teacher.teacher_taps"]
        return [Needs(of_maps, lambda c: c.maps, "with --no-maps", "leave --no-maps out")]

    def check(self) -> None:
        """Refuse values out of range, and a cache without a teacher."""
        require_least(self, views=1, grid=0, size=1, batch_size=1, workers=0, seed=0)
        if self.teacher.teacher is None:
            raise ValueError("teacher: got none, expected --teacher PATH or NAME")
        if not 0 < self.crop_min <= self.crop_max <= 1:
            raise ValueError(
                f"crop_min, crop_max: got {self.crop_min}, {self.crop_max}, expected "
                "0 < crop_min <= crop_max <= 1"
            )
        for name in ("flip_p", "bad_images"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected from 0 to 1")
