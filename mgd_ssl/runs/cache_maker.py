"""Asking a teacher about the views of a data set, one part of a cache after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mgd_ssl.cache.answers import OUTPUT, Answers
from mgd_ssl.cache.parts import part_path
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import Batch, ImageDataset, ImageSource
from mgd_ssl.data.bad_files import make_guard
from mgd_ssl.data.loading import WholeBatches, listed_batches
from mgd_ssl.data.sampling import Indices
from mgd_ssl.data.views import to_unit
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import pool, without_head
from mgd_ssl.progress import steady_rate, tracked
from mgd_ssl.runs.output_folder import Part, write_parts
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.stages import at_most
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.cached_data import stored_views
from mgd_ssl.training.logging import logger

TRIED = 4  # batches that the speed is taken of at least, the first to warm up
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
        missing: what is to be made of it.
    """

    config: CacheConfig
    fabric: Fabric
    source: ImageSource
    teacher: Teacher
    cache: TeacherCache
    missing: Sequence[Where]

    @property
    def images_left(self) -> int:
        """Views that are to be made, of all images together."""
        return sum(len(self.cache.images(part)) for _, part in self.missing)

    def make(self) -> None:
        """Write this process's share of the missing parts.

        Raises:
            DecodeError: too many images cannot be decoded.
            WriteError: the disk is full.
        """
        mine = self.missing[self.fabric.global_rank :: self.fabric.world_size]
        processes = self.fabric.world_size
        parts = tracked(
            *(self._parts(mine), "teacher's answers", self.images_left, "views"),
            count=lambda part: processes * len(part[1][OUTPUT]),
        )
        manifest = self.cache.manifest
        write_parts(parts, manifest.identity, manifest.views * manifest.parts - len(self.missing))

    def images_per_second(self) -> float:
        """How many images the teacher sees a second in this process, measured, times processes."""
        loader = self._load(self.missing)

        def asked() -> Iterator[int]:
            for batch in loader:
                self._ask(batch)
                yield len(batch.images)

        rate = steady_rate(asked(), loader.ahead, TRIED)
        return rate * int(self.fabric.world_size)

    def _parts(self, wanted: Sequence[Where]) -> Iterator[Part]:
        """The file and columns of each part; the loader decodes ahead over their borders."""
        guard = make_guard(self.source, self.config.bad_images, train=True, exif=self.config.exif)
        loader = self._load(wanted)
        loaded = iter(loader)
        for where in wanted:
            answers = []
            for _ in self._batches(*where):
                batch = self._read_again(loader.dataset, next(loaded), view=where[0])
                guard.check(batch)
                answers.append(self._ask(batch))
            columns = {k: torch.cat([columns[k] for columns in answers]) for k in answers[0]}
            yield part_path(self.cache.folder, *where), columns

    def _batches(self, view: int, part: int) -> list[Indices]:
        """Batches of a part's images, and the epoch that draws its view."""
        images, size = self.cache.images(part), self.config.batch_size
        starts = range(0, len(images), size)
        return [Indices.of(images[start : start + size], view) for start in starts]

    def _load(self, wanted: Sequence[Where]) -> WholeBatches[Batch]:
        """Loads the batches of parts, one part after the other."""
        manifest = self.cache.manifest
        crops = stored_views(manifest, manifest.teachers_view)
        dataset = ImageDataset(self.source, crops, self.config.exif)
        return listed_batches(dataset, _BatchesOf(self, wanted), self.config.workers)

    def _read_again(self, dataset: Any, batch: Batch, view: int) -> Batch:
        """The batch with the images that can be decoded at a second try.

        What is stored stays: an answer to a replacement would be taken for that to the image.
        """
        for row in (batch.failed >= 0).nonzero()[:, 0].tolist():
            index = int(batch.failed[row])
            again = dataset.__getitems__(Indices.of([index], view))
            if int(again.failed[0]) < 0:
                logger.warning("%s was read at the second try", self.source.describe(index))
                batch.images[row] = again.images[0]
                batch.indices[row], batch.failed[row] = index, -1
        return batch

    @torch.no_grad()
    def _ask(self, batch: Batch) -> dict[str, Tensor]:
        """A batch of crops -> the columns that are stored, on the CPU."""
        images = to_unit(self.fabric.to_device(batch.images[:, 0]))
        if self.config.device.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast(), without_head(self.teacher.network):
            maps, output = self.teacher(images)
        pooled = [at_most(x.float(), self.config.grid) for x in maps]
        columns = Answers(pooled, pool(output)).encode()
        columns = {name: column.cpu() for name, column in columns.items()}
        numbers = (column for column in columns.values() if column.is_floating_point())
        if not all(column.isfinite().all() for column in numbers):
            raise ValueError(
                f"teacher: got answers in {self.config.device.precision} that are not finite or "
                f"above 65,504, expected numbers that 16 bits hold; the batch's first image is "
                f"{self.source.describe(int(batch.indices[0]))}. Give --precision 32, or another "
                "teacher"
            )
        return columns


@dataclass(frozen=True)
class _BatchesOf:
    """Batches of parts, listed as they are read: all views of millions of images are many."""

    maker: Maker
    wanted: Sequence[Where]

    def __iter__(self) -> Iterator[Indices]:
        for where in self.wanted:
            yield from self.maker._batches(*where)
