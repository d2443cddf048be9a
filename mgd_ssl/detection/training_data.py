"""Training images with boxes: batches for the steps, and images for the matching."""

import itertools
from collections.abc import Iterator

from torch import Tensor

from mgd_ssl.data import subset
from mgd_ssl.detection.flips import flip_randomly
from mgd_ssl.detection.loading import DetectionBatch, DetectionLoader, make_detection_loader
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.fabric import Fabric
from mgd_ssl.progress import tracked_batches
from mgd_ssl.training.loaders import images_per_process, loader_options
from mgd_ssl.training.loop import Position
from mgd_ssl.training.training_data import CALIBRATION_BATCHES, TrainingData


def make_loader(
    config: DetectConfig, fabric: Fabric, source: DetectionSource, *, train: bool = False
) -> DetectionLoader:
    """Batches of this process's share of a source."""
    options = loader_options(config, fabric, source, train=train)
    return make_detection_loader(
        source, images_per_process(config, fabric), exif=config.loader.exif, **options
    )


class DetectionData(TrainingData):
    """Images with boxes, flipped at random, each of its own size.

    Args:
        config: of the run.
        fabric: devices and precision.
        source: training images and boxes.

    Attributes:
        loader: batches of the steps.
    """

    source: DetectionSource
    size, views_per_image = None, 1

    def __init__(self, config: DetectConfig, fabric: Fabric, source: DetectionSource) -> None:
        self.config, self.fabric, self.source = config, fabric, source
        self.loader = make_loader(config, fabric, source, train=True)

    def task_inputs(self, batch: DetectionBatch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """A batch on the device -> images in [0,1] and boxes, flipped at random."""
        return flip_randomly(_unit(batch.images), batch.targets)

    def solving_batches(self, here: Position) -> Iterator[list[Tensor]]:
        """Images in [0,1] on the device, not flipped: a random choice that differs by step."""
        config = self.config
        seed = config.seed + here.epoch * len(self.loader) + here.step
        chosen = subset(self.source, config.mgd.mgd_update_images, seed)
        loader = make_loader(config, self.fabric, chosen)
        for batch in tracked_batches(loader, "images for the matching"):
            yield _unit(self.fabric.to_device(batch.images))

    def calibration_batches(self) -> Iterator[list[Tensor]]:
        """Images of the first steps in [0,1] on the device, not flipped."""
        loader = make_loader(self.config, self.fabric, self.source, train=True)
        for batch in itertools.islice(loader, CALIBRATION_BATCHES):
            yield _unit(self.fabric.to_device(batch.images))


def _unit(images: list[Tensor]) -> list[Tensor]:
    return [image.float().div_(255) for image in images]
