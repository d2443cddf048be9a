"""Reading a cache: rows of any images' answers to a view."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgd_ssl.cache.answers import OUTPUT
from mgd_ssl.cache.manifest import Manifest, read_manifest
from mgd_ssl.cache.parts import is_there, is_whole, part_path, read_part
from mgd_ssl.progress import tracked

MOST_OPEN = 4096  # parts that are mapped at once; a process may map some 65,000 files
THREADS = 4


class TeacherCache:
    """A folder of a teacher's answers.

    A part's checksum is compared when the part is first read, by whichever process reads it.

    Args:
        folder: of the cache.
        manifest: what it was made from.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._open: OrderedDict[tuple[int, int], dict[str, Tensor]] = OrderedDict()
        # whether each part was compared; processes that are started later share it
        self._compared = torch.zeros(manifest.views, manifest.parts, dtype=torch.bool)
        self._compared.share_memory_()

    @classmethod
    def open(cls, folder: Path) -> "TeacherCache":
        """The cache in a folder.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        return cls(folder, read_manifest(folder))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is mapped: another process maps for itself."""
        return self.__dict__ | {"_open": OrderedDict()}

    def read(self, view: int, images: NDArray[np.int64], *, maps: bool = True) -> dict[str, Tensor]:
        """Columns of some images' answers to a view, from 0; see `Answers`.

        Args:
            view: from 0.
            images: in any order.
            maps: read the maps too, not the pooled output alone.

        Raises:
            PartError: a part is missing or damaged.
        """
        parts, rows = np.divmod(images, self.manifest.part_images)
        found: dict[str, Tensor] = {}
        for part in np.unique(parts).tolist():
            here = torch.from_numpy(np.flatnonzero(parts == part))
            wanted = torch.from_numpy(rows[parts == part])
            for name, column in self._part(view, part).items():
                if not maps and name != OUTPUT:
                    continue
                if name not in found:
                    found[name] = column.new_empty((len(images), *column.shape[1:]))
                found[name][here] = column[wanted]
        return found

    def missing(
        self, *, checksums: bool, among: Sequence[tuple[int, int]] | None = None
    ) -> list[tuple[int, int]]:
        """Views and parts that are not there, or not as they were written.

        Args:
            checksums: read every part whole; otherwise its length and header alone are compared.
            among: of these; all unless given.
        """
        every = list(self.every()) if among is None else among
        is_good = is_whole if checksums else is_there
        with ThreadPoolExecutor(THREADS) as pool:
            read = pool.map(lambda where: is_good(*self._described(*where)), every)
            found = list(tracked(read, f"reading {self.folder}", len(every), "parts"))
        return [where for where, good in zip(every, found, strict=True) if not good]

    def every(self) -> Iterator[tuple[int, int]]:
        """Each view with each of its parts, in the order of making."""
        for view in range(self.manifest.views):
            for part in range(self.manifest.parts):
                yield view, part

    def shapes(self, part: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a part's columns."""
        made_from = self.manifest
        n = len(self.images(part))
        shapes: dict[str, tuple[int, ...]] = {OUTPUT: (n, made_from.features)}
        for i, m in enumerate(made_from.maps):
            shapes |= {f"map_{i}": (n, m.channels, m.height, m.width), f"scale_{i}": (n,)}
        return shapes

    def images(self, part: int) -> range:
        """Images of a part."""
        first = part * self.manifest.part_images
        return range(first, min(first + self.manifest.part_images, self.manifest.images))

    def _described(self, view: int, part: int) -> tuple[Path, str, dict[str, tuple[int, ...]]]:
        """Where a part is, its cache's identity, and its columns' shapes."""
        return part_path(self.folder, view, part), self.manifest.identity, self.shapes(part)

    def _part(self, view: int, part: int) -> dict[str, Tensor]:
        where = view, part
        if where not in self._open:
            check = not self._compared[where]
            self._open[where] = read_part(*self._described(view, part), check=check)
            self._compared[where] = True
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(where)
        return self._open[where]
