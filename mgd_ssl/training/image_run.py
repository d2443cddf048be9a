"""A run on single images: what pretraining and classification share."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from lightning.fabric import Fabric
from torch import Tensor

from mgd_ssl.data import Batch, ImageSource, ViewConfig, build_view
from mgd_ssl.training.loaders import first_images, load_loader, unit_images
from mgd_ssl.training.loop import Position
from mgd_ssl.training.memory import (
    IN_PASSING,
    StepMemory,
    activations,
    matched_bytes,
    optimizer_bytes,
)
from mgd_ssl.training.run import AnyTask, Config, TrainingRun
from mgd_ssl.training.schedules import LearningRate


class ImageRun(TrainingRun[Config, AnyTask]):
    """Random views of a source's images; the matching is solved before some epochs.

    Args:
        config: resolved.
        fabric: devices and precision.
        task: what is trained.
        source: training images.
        views: how a view is drawn.
        count: views of each image.
        learning_rate: of the run, whose length it has.
        solve_before: epochs, from 1, before which the matching is solved.
    """

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        task: AnyTask,
        source: ImageSource,
        views: ViewConfig,
        learning_rate: LearningRate,
        solve_before: Sequence[int],
        count: int = 1,
    ) -> None:
        size = cast(int, config.loader.size)
        crops = views.crops(size, count, config.seed)
        loader = load_loader(config, fabric, source, train=True, crops=crops)
        super().__init__(config, fabric, task, loader, learning_rate)
        self.source, self.solve_before, self.count = source, solve_before, count
        self.view = build_view(views, size).to(fabric.device)

    def views(self, batch: Batch) -> list[Tensor]:
        """The random views (B,3,S,S) in [0,1] of a batch on the device."""
        return [self.view(crops) for crops in batch.images.unbind(1)]

    def step_memory(self) -> StepMemory:
        """Of the networks as they are, measured on blank images."""
        task, size, device = self.task, cast(int, self.config.loader.size), self.fabric.device
        with self.fabric.autocast():
            student = activations(task.student, task.read, size, device)
            with torch.no_grad():
                frozen = [
                    activations(network, read, size, device) for network, read in task.frozen()
                ]
        pixels = 3 * size * size * torch.float32.itemsize
        fixed = optimizer_bytes(self.optimizer, int(self.fabric.world_size))
        return StepMemory(
            fixed=fixed + sum(queue.nbytes for queue in task.queues()),
            per_image=task.encodings * student.saved
            + IN_PASSING * max(a.largest for a in (student, *frozen))
            + (task.distiller is not None) * matched_bytes(student, frozen)
            + (2 + 2 * self.count) * pixels
            + sum(IN_PASSING * queue[0].nbytes for queue in task.queues()),
        )

    def is_due(self, here: Position) -> bool:
        """Before the first step of some epochs."""
        return here.step == 0 and here.epoch + 1 in self.solve_before

    def statistics(self, here: Position) -> Iterable[Tensor]:
        """Another random choice of images each time."""
        return unit_images(self.config, self.fabric, self.source, here.epoch)

    def first(self) -> Iterable[Tensor]:
        """Centres of the first steps' images."""
        return first_images(self.config, self.fabric, self.source)
