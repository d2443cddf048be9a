"""Training images: the batches of the steps, and the images that the matching is solved from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from mgd_ssl.data import Batch, ImageLoader, ImageSource, View, random_crops, subset
from mgd_ssl.data.views import to_unit
from mgd_ssl.fabric import Fabric
from mgd_ssl.progress import tracked_batches
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.settings.views import ViewOptions
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.loop import Loader, Position

CALIBRATION_BATCHES = 8


class TrainingData(ABC):
    """Training images as a run takes them; the only way from ``data`` to a step.

    Attributes:
        source: the images.
        loader: batches of the steps.
        size: side in pixels of what the networks see; None where images differ.
        views_per_image: how many of each image a step sees.
        answers: what a teacher's stored answers are made from; None where it is run.
        make: stores those that are missing, which a run does once all else has been checked; None
            where none is.
    """

    source: ImageSource
    loader: Loader
    size: int | None
    views_per_image: int
    answers: str | None = None
    make: Callable[[], None] | None = None

    @abstractmethod
    def task_inputs(self, batch: Any) -> Sequence[Any]:
        """A batch on the device -> what the task is called with, drawn at random."""

    @abstractmethod
    def solving_batches(self, here: Position) -> Iterable[Any]:
        """Batches of a random choice of images, another at each position, without augmentation."""

    @abstractmethod
    def calibration_batches(self) -> Iterable[Any]:
        """Batches of the first steps' images, without augmentation.

        Every rank gets as many: synchronized norms wait for all.
        """


class ImageData(TrainingData):
    """Single images of one size, each seen in one or more random views.

    Args:
        config: of the run.
        fabric: devices and precision.
        source: training images.
        views: how a view is drawn.
        size: side of the views in pixels. Default: the larger of the student's and the teacher's.
        views_per_image: one or two.
        labeled: whether the task takes the classes too.

    Attributes:
        loader: batches of random crops.
        size: side of the views in pixels.
        stored_views: of each image, of which a cache's answers are read; 0 without a cache.
    """

    size: int
    stored_views: int = 0

    def __init__(
        self,
        config: RunConfig,
        fabric: Fabric,
        source: ImageSource,
        views: ViewOptions,
        *,
        size: int = 0,
        views_per_image: int = 1,
        labeled: bool = False,
    ) -> None:
        self.config, self.fabric, self.source = config, fabric, source
        student, teacher = config.loader.size, config.teacher.teacher_size
        self.size, self.labeled = size or max(student, teacher), labeled
        self.views_per_image = views_per_image
        self.loader = self._training_loader(views)
        self._view = View(views, self.size, self.size / student)

    def _training_loader(self, views: ViewOptions) -> ImageLoader:
        crops = random_crops(views, self.size, self.views_per_image, self.config.seed)
        return build_loader(self.config, self.fabric, self.source, train=True, crops=crops)

    def task_inputs(self, batch: Batch) -> Sequence[Any]:
        """A batch on the device -> random views (B,3,S,S) in [0,1], and the classes if labeled."""
        views = self.views_of(batch)
        return [*views, batch.labels] if self.labeled else views

    def views_of(self, batch: Batch) -> Sequence[Any]:
        """A batch on the device -> random views (B,3,S,S) in [0,1]."""
        return [self._view(crops) for crops in batch.images.unbind(1)]

    def solving_batches(self, here: Position) -> Iterator[Any]:
        """(B,3,S,S) in [0,1] on the device: centers of a random choice that differs by epoch."""
        count = self.config.mgd.mgd_update_images
        chosen = subset(self.source, count, self.config.seed + here.epoch)
        loader = build_loader(self.config, self.fabric, chosen, size=self.size)
        for batch in tracked_batches(loader, "images for the matching"):
            yield to_unit(self.fabric.to_device(batch.images))

    def calibration_batches(self) -> Iterator[Any]:
        """(B,3,S,S) in [0,1] on the device: centers of the first steps' images, whole batches."""
        loader = build_loader(self.config, self.fabric, self.source, train=True, size=self.size)
        for batch in islice(loader, CALIBRATION_BATCHES):
            yield to_unit(self.fabric.to_device(batch.images))


def before_epochs(epochs: Iterable[int], loader: Loader) -> set[int]:
    """Steps of a run, from 0, that begin the epochs, from 1."""
    return {(epoch - 1) * len(loader) for epoch in epochs}
