"""Parts of a cache: some images' answers to one view, a file each, whole or absent."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mgd_ssl.files import write_whole

# One entry, the cache's identity and a checksum: the order of several is not always the same.
ENTRY = "cache"

Shapes = Mapping[str, tuple[int, ...]] | None  # None: any


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
    content = save(dict(columns), {ENTRY: f"{identity} {_checksum(columns)}"})
    write_whole(path, lambda file: file.write(content))


def read_part(path: Path, identity: str, shapes: Shapes) -> dict[str, Tensor]:
    """A part's columns, mapped into memory.

    Args:
        path: of the part.
        identity: of the cache.
        shapes: of the columns.

    Raises:
        ValueError: the part is missing, cut short, of another cache, or not of these columns.
    """
    return _read(path, identity, shapes)[0]


def is_whole(path: Path, identity: str, shapes: Shapes) -> bool:
    """Whether a part is there, of this cache, and of the bytes that were written."""
    try:
        columns, checksum = _read(path, identity, shapes)
    except ValueError:
        return False
    return str(_checksum(columns)) == checksum


def _read(path: Path, identity: str, shapes: Shapes) -> tuple[dict[str, Tensor], str]:
    """A part's columns, and the checksum that was written with them."""
    columns, (written_for, checksum) = _open(path)
    if written_for != identity:
        raise ValueError(f"teacher cache: {path} is a part of another cache; make this part anew")
    found = {name: tuple(column.shape) for name, column in columns.items()}
    if shapes is not None and found != shapes:
        raise ValueError(f"teacher cache: {path} holds other columns than the cache; delete it")
    return columns, checksum


def _open(path: Path) -> tuple[dict[str, Tensor], tuple[str, str]]:
    """A part's columns, the identity of its cache and its checksum."""
    try:
        with safe_open(path, "pt") as file:
            names, metadata = file.keys(), file.metadata() or {}
            identity, _, checksum = metadata.get(ENTRY, "").partition(" ")
            return {name: file.get_tensor(name) for name in names}, (identity, checksum)
    except FileNotFoundError as error:
        raise ValueError(f"teacher cache: {path} is missing; make the cache again") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"teacher cache: {path} is damaged ({error}); delete it") from error


def _checksum(columns: Mapping[str, Tensor]) -> int:
    checksum = 0
    for _, column in sorted(columns.items()):
        flat = column.contiguous().flatten().view(torch.uint8)
        checksum = zlib.crc32(flat.numpy().data, checksum)
    return checksum
