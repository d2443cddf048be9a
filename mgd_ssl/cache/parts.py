"""Parts of a cache: some images' answers to one view, a file each, whole or absent."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mgd_ssl.errors import WorkerError
from mgd_ssl.files import write_bytes

# One entry, the cache's identity and a checksum: the order of several is not always the same.
ENTRY = "cache"
REMEDY = (
    "delete it and repeat the command that made the cache, mgd-ssl cache or a run with "
    "--cache-views, which makes the part again"
)

Shapes = Mapping[str, tuple[int, ...]] | None  # None: any


class PartError(WorkerError):
    """A part is not there, or not as it was written."""


def part_path(folder: Path, view: int, part: int) -> Path:
    """Where a part is."""
    return folder / f"view_{view:04}" / f"{part:06}.safetensors"


def write_part(path: Path, columns: Mapping[str, Tensor], identity: str) -> None:
    """Write a part's columns.

    Args:
        path: of the part.
        columns: name -> (n, ...) on the CPU.
        identity: of the cache.

    Raises:
        WriteError: the disk is full or cannot be written; no part is left behind.
    """
    write_bytes(path, save(dict(columns), {ENTRY: f"{identity} {_checksum(columns)}"}))


def read_part(path: Path, identity: str, shapes: Shapes, *, check: bool) -> dict[str, Tensor]:
    """A part's columns, mapped into memory.

    Args:
        path: of the part.
        identity: of the cache.
        shapes: of the columns.
        check: compare the checksum too, which reads the whole part.

    Raises:
        PartError: the part is missing, cut short, changed, of another cache, or not of these
            columns.
    """
    with _opened(path, identity, shapes) as (file, checksum):
        columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if check and str(_checksum(columns)) != checksum:
        raise PartError(f"teacher cache: {path} is not as it was written; {REMEDY}")
    return columns


def is_there(path: Path, identity: str, shapes: Shapes) -> bool:
    """Whether a part of this cache and of its whole length is there; reads the header alone."""
    try:
        with _opened(path, identity, shapes):
            return True
    except PartError:
        return False


def is_whole(path: Path, identity: str, shapes: Shapes) -> bool:
    """Whether a part is there, of this cache, and of the bytes that were written."""
    try:
        return bool(read_part(path, identity, shapes, check=True))
    except PartError:
        return False


@contextmanager
def _opened(path: Path, identity: str, shapes: Shapes) -> Iterator[tuple[Any, str]]:
    """A part's file, whose header was compared with all that is known, and its checksum."""
    try:
        with safe_open(path, "pt") as file:  # refuses another length than the header's
            written_for, _, checksum = (file.metadata() or {}).get(ENTRY, "").partition(" ")
            if written_for != identity:
                raise PartError(f"teacher cache: {path} is a part of another cache; {REMEDY}")
            names = file.keys()
            found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            if shapes is not None and found != shapes:
                raise PartError(f"teacher cache: {path} holds other columns; {REMEDY}")
            yield file, checksum
    except FileNotFoundError as error:
        raise PartError(f"teacher cache: {path} is missing; {REMEDY}") from error
    except (SafetensorError, OSError) as error:
        raise PartError(f"teacher cache: {path} is damaged ({error}); {REMEDY}") from error


def _checksum(columns: Mapping[str, Tensor]) -> int:
    checksum = 0
    for _, column in sorted(columns.items()):
        flat = column.contiguous().flatten().view(torch.uint8)
        checksum = zlib.crc32(flat.numpy().data, checksum)
    return checksum
