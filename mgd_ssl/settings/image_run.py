"""Settings of the training commands of single images, whose teacher's answers can be stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mgd_ssl.ranges import require_least
from mgd_ssl.settings.inherited import OF_VIEWS
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.settings.views import PresetViews


@dataclass(frozen=True)
class ImageRunConfig(RunConfig):
    """Settings of a training command whose images are seen in random views."""

    teacher_cache: Path | None = None
    """Folder of the teacher's answers, which are read instead of running it. They set size, crops
    and flips."""
    cache_views: int = 0
    """Views of each image to read from --teacher-cache; missing ones are made first, of all DATA.
    0: all that are there."""
    views: PresetViews = field(default_factory=PresetViews)

    def check(self) -> None:
        """Refuse values out of range."""
        super().check()
        require_least(self, cache_views=0)


def with_crops(views: PresetViews, said: Mapping[str, Any]) -> PresetViews:
    """The views of a preset, with the crops and flips that are given or that a cache tells."""
    return replace(views, **{name: said[name] for name in OF_VIEWS if name in said})
