"""An index of the images inside archives, in arrays that all processes share."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.archives.array_file import ArrayFile
from mgd_ssl.data.archives.entries import Table, joined, rows
from mgd_ssl.data.path_list import PathList

VERSION = 2


@dataclass(frozen=True)
class Archive:
    """An archive as it was when it was listed.

    Attributes:
        name: of the file in its folder.
        size: in bytes.
        changed: when it was last written, in nanoseconds.
    """

    name: str
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "Archive":
        """The file as it is now."""
        status = path.stat()
        return cls(path.name, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Part:
    """The images of one archive, their number, and what was left out, counted by reason."""

    table: Table
    count: int
    skipped: dict[str, int]


class ArchiveIndex:
    """The images of some archives of one folder, in the order of the archives.

    Attributes:
        folder: that the archives are in.
        archives: the files.
        starts: (archives + 1,) the first image of each archive, and the number of all.
        names: what the images are called.
        table: the arrays; see :class:`Table`.

    Raises:
        ValueError: the file is of another version.
    """

    def __init__(self, folder: Path, file: ArrayFile) -> None:
        meta, arrays = file.meta, file.arrays
        if meta.get("version") != VERSION:
            raise ValueError(f"version {meta.get('version')}, and this program reads {VERSION}")
        self.folder, self.file = folder, file
        self.archives = [Archive(*values) for values in meta["archives"]]
        self.starts: NDArray[np.int64] = np.array(meta["starts"], np.int64)
        self.names = PathList.of(arrays["text"], arrays["ends"])
        self.table = Table(arrays, meta["labels"], meta["folders"])
        self._skipped: list[dict[str, int]] = meta["skipped"]

    def __reduce__(self) -> tuple[Callable[..., "ArchiveIndex"], tuple[Any, ...]]:
        return ArchiveIndex, (self.folder, self.file)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def skipped(self) -> Counter[str]:
        """What was left out of all archives, counted by reason."""
        total = Counter[str]()
        for reasons in self._skipped:
            total.update(reasons)
        return total

    def archive_of(self, row: int) -> Archive:
        """The archive that image ``row`` is in."""
        return self.archives[int(np.searchsorted(self.starts, row, side="right")) - 1]

    def part(self, number: int) -> Part:
        """The images of one archive."""
        start, stop = self.starts[number : number + 2].tolist()
        return Part(rows(self.table, start, stop), stop - start, self._skipped[number])


def index_content(
    archives: Sequence[Archive], parts: Sequence[Part]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What an index of some archives holds: arrays, and what JSON can hold."""
    whole = joined([part.table for part in parts])
    meta = {
        "version": VERSION,
        "archives": [list(astuple(archive)) for archive in archives],
        "starts": [0, *np.cumsum([part.count for part in parts]).tolist()],
        "labels": whole.labels,
        "folders": whole.folders,
        "skipped": [part.skipped for part in parts],
    }
    return dict(whole.columns), meta
