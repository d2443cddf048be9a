"""Asking a teacher about the views of a data set, one part of a cache after the other."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mgd_ssl.cache.answers import Answers
from mgd_ssl.cache.parts import part_path, write_part
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import Batch, ImageDataset, ImageSource, decoding_workers
from mgd_ssl.data.bad_files import make_guard
from mgd_ssl.data.loading import listed_loader
from mgd_ssl.data.sampling import Indices
from mgd_ssl.data.views import to_unit
from mgd_ssl.data.workers import stop_signals_blocked
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import pool
from mgd_ssl.progress import Progress
from mgd_ssl.runs.output_folder import kept
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.stages import at_most
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.cached_data import stored_views

TRIED = 3  # batches that the speed is taken of, after one that warms up
Where = tuple[int, int]  # a view and a part


@dataclass
class Maker:
    """A teacher, images, and the cache of its answers.

    Attributes:
        config: of the command.
        fabric: devices and precision.
        source: the images.
        teacher: on its device.
        cache: where the answers go.
    """

    config: CacheConfig
    fabric: Fabric
    source: ImageSource
    teacher: Teacher
    cache: TeacherCache

    def make(self, missing: Sequence[Where]) -> None:
        """Write this process's share of the missing parts.

        Raises:
            DecodeError: too many images cannot be decoded.
            WriteError: the disk is full.
        """
        mine = missing[self.fabric.global_rank :: self.fabric.world_size]
        whole = self.cache.manifest.views * self.cache.manifest.parts - len(missing)
        made = 0
        views = sum(len(self.cache.images(part)) for _, part in mine)
        progress = Progress("teacher's answers", views, "views")
        with kept(lambda: whole + made), closing(progress):
            for where, columns in self._parts(mine):
                path = part_path(self.cache.folder, *where)
                write_part(path, columns, self.cache.manifest.identity)
                made += 1
                progress.advance(len(columns["output"]))

    def images_per_second(self) -> float:
        """How many images the teacher sees a second in this process, measured, times processes."""
        batches = self._batches([(0, 0)] if self.cache.manifest.parts else [])[: TRIED + 1]
        started, ended, seen = 0.0, 0.0, 0
        for number, batch in enumerate(self._loader(batches)):
            self._ask(batch)
            ended = time.monotonic()
            if number == 0:
                started = ended
            else:
                seen += len(batch.images)
        if not seen:  # one batch is all there is
            return float(self.cache.manifest.images)
        return seen / (ended - started) * int(self.fabric.world_size)

    def _parts(self, wanted: Sequence[Where]) -> Iterator[tuple[Where, dict[str, Tensor]]]:
        """The columns of each part; the loader decodes ahead over their borders."""
        guard = make_guard(self.source, self.config.bad_images, train=True, exif=self.config.exif)
        with stop_signals_blocked():
            batches = iter(self._loader(self._batches(wanted)))
        for where in wanted:
            answers = []
            for _ in range(-(-len(self.cache.images(where[1])) // self.config.batch_size)):
                batch = next(batches)
                guard.check(batch)
                answers.append(self._ask(batch))
            yield where, {k: torch.cat([columns[k] for columns in answers]) for k in answers[0]}

    def _batches(self, wanted: Sequence[Where]) -> list[Indices]:
        """Batches of images, each of one part, and the epoch that draws its view."""
        size = self.config.batch_size
        return [
            Indices.of(self.cache.images(part)[start : start + size], view)
            for view, part in wanted
            for start in range(0, len(self.cache.images(part)), size)
        ]

    def _loader(self, batches: Sequence[Indices]) -> "DataLoader[Any]":
        source = self.source
        manifest = self.cache.manifest
        crops = stored_views(manifest, manifest.teachers_view)
        workers = 0 if source.in_memory else decoding_workers(self.config.workers)
        return listed_loader(ImageDataset(source, crops, self.config.exif), batches, workers)

    @torch.no_grad()
    def _ask(self, batch: Batch) -> dict[str, Tensor]:
        """A batch of crops -> the columns that are stored, on the CPU."""
        images = to_unit(self.fabric.to_device(batch.images[:, 0]))
        if self.config.device.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast():
            maps, output = self.teacher(images)
        pooled = [at_most(x.float(), self.config.grid) for x in maps]
        columns = Answers(pooled, pool(output)).encode()
        return {name: column.cpu() for name, column in columns.items()}
