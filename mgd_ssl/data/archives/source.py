"""Images inside archives, read one by one where their index says that they are."""

import os
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.archives.index import Archive, ArchiveIndex
from mgd_ssl.data.archives.labels import unsaid_labels
from mgd_ssl.data.sources import EncodedSource

MOST_OPEN = 128  # archives of this process; the system allows about a thousand files


class OpenArchive:
    """An archive that is open for reading at any offset, by any number of threads."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self._path, self._archive = path, archive
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes from an offset on.

        Raises:
            ValueError: the file is not what it was when it was listed, or it ends before.
        """
        status = os.fstat(self._file)
        if (status.st_size, status.st_mtime_ns) != (self._archive.size, self._archive.changed):
            raise ValueError(
                f"{self._path} has changed since its index was made; start the command again"
            )
        parts, missing = list[bytes](), size
        while missing and (part := os.pread(self._file, missing, offset + size - missing)):
            parts.append(part)
            missing -= len(part)
        if missing:
            raise ValueError(f"{missing} of {size} bytes are missing: the archive is truncated")
        return b"".join(parts)


@lru_cache(MOST_OPEN)
def open_archive(path: Path, archive: Archive) -> OpenArchive:
    """An archive, kept open for the next image; closed once nobody reads it any more."""
    return OpenArchive(path, archive)


class ArchiveSource(EncodedSource):
    """The images of an index, or some of them.

    Args:
        index: of the archives.
        name: what a report calls the source.
        rows: (N,) which images of the index; None for all.
        prefix: what the images' names begin with in the archive, and not in the source.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.
    """

    def __init__(
        self,
        index: ArchiveIndex,
        name: str,
        rows: NDArray[np.int64] | None = None,
        prefix: str = "",
        max_pixels: int | None = None,
    ) -> None:
        self.index, self.name, self.prefix, self.max_pixels = index, name, prefix, max_pixels
        self._rows = rows

    def __getstate__(self) -> dict[str, Any]:
        """Everything but labels that stand in the index, which a worker maps itself."""
        state = self.__dict__.copy()
        if self.labels is self.index.table.columns["label"]:
            del state["labels"]
            state["labels_of_index"] = True
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.pop("labels_of_index", False):
            state["labels"] = state["index"].table.columns["label"]
        self.__dict__.update(state)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.index) if self._rows is None else len(self._rows)

    def encoded(self, index: int) -> bytes:
        """The image file of image ``index``; raises where it cannot be read."""
        row, archive = self._place(index)
        columns = self.index.table.columns
        return archive.read(int(columns["offset"][row]), int(columns["size"][row]))

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` is called, in the folder that it was packed from, and its size."""
        row = self._row(index)
        size = int(self.index.table.columns["size"][row])
        return self.index.names[row].removeprefix(self.prefix), size

    def describe(self, index: int) -> str:
        """``archive[name]``."""
        row = self._row(index)
        path = self.index.folder / self.index.archive_of(row).name
        return f"{path}[{self.index.names[row]}]"

    def annotation_bytes(self, indices: NDArray[np.int64]) -> bytes:
        """The labels that the images' names do not say."""
        if self.labels is None:
            return b""
        rows = indices if self._rows is None else self._rows[indices]
        codes = self.index.table.columns["folder"][rows]
        folders = self.index.table.folders
        return unsaid_labels(self.labels[indices], self.classes, folders, codes, self.prefix)

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _place(self, index: int) -> tuple[int, OpenArchive]:
        """The row of an image in the index, and its archive."""
        row = self._row(index)
        archive = self.index.archive_of(row)
        return row, open_archive(self.index.folder / archive.name, archive)
