"""Training images in views of which a teacher's answers are stored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgd_ssl.cache.answers import Answers
from mgd_ssl.cache.manifest import Manifest
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import Batch, ImageLoader, ImageSource, RandomCrops, StoredViews, subset
from mgd_ssl.data.views import to_unit
from mgd_ssl.fabric import Fabric
from mgd_ssl.progress import tracked_batches
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.settings.views import ViewOptions
from mgd_ssl.tasks.task import TaughtView
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.loop import Position
from mgd_ssl.training.training_data import CALIBRATION_BATCHES, ImageData


@dataclass(frozen=True)
class StoredAnswers:
    """What a cache holds of the views that an epoch sees.

    Attributes:
        cache: of a teacher's answers.
        views: that are cut of each image.
        maps: whether maps are read beside the pooled output.
    """

    cache: TeacherCache
    views: StoredViews
    maps: bool = True

    @classmethod
    def of(cls, cache: TeacherCache, views: int = 1, maps: bool = True) -> "StoredAnswers":
        """So many views of each image in an epoch."""
        return cls(cache, stored_views(cache.manifest, cache.manifest.size, views), maps)

    def read(self, epoch: int, images: NDArray[np.int64]) -> dict[str, Tensor]:
        """Of B images' V crops: column -> (B, V, ...)."""
        rows = [self.cache.read(view, images, maps=self.maps) for view in self.views.seen(epoch)]
        with torch.autocast("cpu", enabled=False):  # which stacks no mixture of float types
            return {name: torch.stack([row[name] for row in rows], dim=1) for name in rows[0]}


def stored_views(manifest: Manifest, size: int, views: int = 1) -> StoredViews:
    """The crops that a cache holds the answers to, so many of an image, ``size`` pixels a side."""
    area = manifest.crop_min, manifest.crop_max
    crops = RandomCrops(size, 1, area, manifest.seed, manifest.flip_p)
    return StoredViews(crops, manifest.views, views)


class CachedImageData(ImageData):
    """Single images in views of which the teacher's answers are stored.

    Args:
        config: of the run.
        fabric: devices and precision.
        source: training images.
        views: color and blur of a view; its crop is the cache's.
        cache: of the teacher's answers.
        make: stores the answers that are missing; None where none is.
        kinds: ``views_per_image`` and ``labeled`` of `ImageData`.
    """

    def __init__(
        self,
        config: RunConfig,
        fabric: Fabric,
        source: ImageSource,
        views: ViewOptions,
        cache: TeacherCache,
        make: Callable[[], None] | None = None,
        **kinds: Any,
    ) -> None:
        self.cache, self.make = cache, make
        self.stored_views = cache.manifest.views
        self.answers = f"{cache.manifest.identity}, {self.stored_views} views"
        super().__init__(config, fabric, source, views, size=config.loader.size, **kinds)

    def _loader(self, source: ImageSource, *, train: bool, views: int = 1) -> ImageLoader:
        store = StoredAnswers.of(self.cache, views, self.config.mgd.is_matched)
        return build_loader(
            self.config, self.fabric, source, train=train, crops=store.views, store=store
        )

    def _training_loader(self, views: ViewOptions) -> ImageLoader:
        return self._loader(self.source, train=True, views=self.views_per_image)

    def views_of(self, batch: Batch) -> list[TaughtView]:
        """A batch on the device -> random views with the teacher's answers."""
        crops = enumerate(batch.images.unbind(1))
        return [_taught(self._view(images), batch, which) for which, images in crops]

    def solving_batches(self, here: Position) -> Iterator[TaughtView]:
        """Stored views of a random choice of images that differs by epoch; colors unchanged."""
        count = self.config.mgd.mgd_update_images
        chosen = subset(self.source, count, self.config.seed + here.epoch)
        loader = self._loader(chosen, train=False)
        loader.set_position(here.epoch)
        yield from map(self._plain, tracked_batches(loader, "images for the matching"))

    def calibration_batches(self) -> Iterator[TaughtView]:
        """Stored views of the first steps' images, whole batches; colors unchanged."""
        batches = islice(self._loader(self.source, train=True), CALIBRATION_BATCHES)
        yield from map(self._plain, batches)

    def _plain(self, batch: Batch) -> TaughtView:
        batch = self.fabric.to_device(batch)
        return _taught(to_unit(batch.images[:, 0]), batch, 0)


def _taught(images: Tensor, batch: Batch, view: int) -> TaughtView:
    """Images with what is stored of one of a batch's views."""
    assert batch.stored is not None
    answers = Answers.decode({name: column[:, view] for name, column in batch.stored.items()})
    return TaughtView(images, answers.maps, answers.output)
