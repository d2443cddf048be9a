"""Named arrays in one file that is mapped into memory, so that processes share them."""

import json
import mmap
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.files import write_whole

MAGIC = b"mgd_ssl arrays 1\n"
TYPES = {"<i8", "<i4", "<u4", "|u1"}
ALIGNMENT = 64
Array = NDArray[Any]


class ArrayFile:
    """One-dimensional integer arrays, and what else is to be known of them.

    An object that stands in a file is pickled as the file's path: processes that start later map
    the same pages of memory.

    Args:
        arrays: by name.
        meta: what JSON can hold.
        path: the file that they stand in, None where they are in this process's memory.
        checksum: of the file's header.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        meta: Mapping[str, Any],
        path: Path | None = None,
        checksum: int = 0,
    ) -> None:
        self.arrays, self.meta, self.path, self.checksum = arrays, meta, path, checksum

    def __reduce__(self) -> tuple[Callable[..., "ArrayFile"], tuple[Any, ...]]:
        if self.path is None:
            return ArrayFile, (dict(self.arrays), self.meta)
        return _reopen, (self.path, self.checksum)


def write_arrays(path: Path, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write a file that :func:`open_arrays` reads, whole or not at all.

    Raises:
        WriteError: the disk is full or cannot be written.
    """
    columns, end = [], 0
    for name, array in arrays.items():
        start = _aligned(end)
        end = start + array.nbytes
        columns.append([name, array.dtype.str, len(array), start])
    header = json.dumps({"meta": meta, "arrays": columns}).encode()
    sizes = len(header).to_bytes(8, "little") + zlib.crc32(header).to_bytes(4, "little")

    def write(file: IO[bytes]) -> None:
        file.write(MAGIC + sizes + header)
        for array in arrays.values():
            file.write(bytes(_aligned(file.tell()) - file.tell()))
            file.write(np.ascontiguousarray(array).data)

    write_whole(path, write)


def open_arrays(path: Path) -> ArrayFile:
    """Map a file of :func:`write_arrays` into memory.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no such file, or it is damaged.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(f"{path}: empty; expected arrays")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = len(MAGIC) + 12
    length, checksum = (
        int.from_bytes(mapped[len(MAGIC) : start - 4], "little"),
        int.from_bytes(mapped[start - 4 : start], "little"),
    )
    header = mapped[start : start + length]
    if mapped[: len(MAGIC)] != MAGIC or zlib.crc32(header) != checksum:
        raise ValueError(f"{path}: not a file of arrays, or a damaged one")
    content = json.loads(header)
    begin = _aligned(start + length)
    arrays = {
        name: _column(path, mapped, kind, count, begin + offset)
        for name, kind, count, offset in content["arrays"]
    }
    return ArrayFile(arrays, content["meta"], path, checksum)


def _reopen(path: Path, checksum: int) -> ArrayFile:
    opened = open_arrays(path)
    if opened.checksum != checksum:
        raise ValueError(
            f"{path}: written anew since the data was opened; expected it unchanged while a "
            "command runs. Start the command again."
        )
    return opened


def _column(path: Path, mapped: mmap.mmap, kind: str, count: int, offset: int) -> Array:
    if kind not in TYPES or offset + count * np.dtype(kind).itemsize > len(mapped):
        raise ValueError(f"{path}: an array of {count} {kind}, and the file ends before")
    return np.frombuffer(mapped, np.dtype(kind), count, offset)


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT
