"""Writing images into tar shards of WebDataset's layout, each whole or absent, each read back."""

import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from mgd_ssl.data.archives.entries import Entries, tidy_name
from mgd_ssl.data.archives.tar_entries import read_tar
from mgd_ssl.data.formats import extensions, open_image
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.files import write_whole

BLOCK = tarfile.BLOCKSIZE
EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}  # else the format's


class UnreadableError(ValueError):
    """An image that is to be packed cannot be read from its source."""


class StoppedError(Exception):
    """Packing was asked to stop before a shard was whole."""


@dataclass(frozen=True)
class Coding:
    """How images are stored.

    Attributes:
        size: shorter side in pixels that larger images are resized to, and encoded again as JPEG;
            None leaves every image as it is, byte for byte.
        quality: of the JPEG files, 1 to 100.
    """

    size: int | None = None
    quality: int = 95


@dataclass(frozen=True)
class Plan:
    """Which image goes into which shard: a function of the source and of these numbers alone.

    Attributes:
        source: of the images.
        folder: of the shards.
        per_shard: images in each but the last.
        coding: how they are stored.
    """

    source: ImageSource
    folder: Path
    per_shard: int
    coding: Coding

    def __len__(self) -> int:
        """Number of shards."""
        return -(-len(self.source) // self.per_shard)

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{number:06}.tar"

    def images(self, number: int) -> range:
        """The images of a shard."""
        start = number * self.per_shard
        return range(start, min(start + self.per_shard, len(self.source)))


@dataclass(frozen=True)
class WrittenShard:
    """A shard that was written: its images, its bytes, the images that were kept undecoded."""

    images: int
    size: int
    undecodable: list[int]


def encode(source: ImageSource, index: int, coding: Coding) -> tuple[bytes, str, bool]:
    """An image file, its extension, and whether it could be decoded where that was needed.

    An image that cannot be decoded is stored as it is, so that its place is kept.

    Raises:
        UnreadableError: there is no file to read any more, or it may not be read.
    """
    try:
        data = source.encoded(index)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{source.describe(index)} cannot be read: {error}") from error
    if data is None:
        smaller = None if coding.size is None else _resized(source, index, coding)
        if smaller is None:
            return _png(source.read(index)), "png", True
        return smaller, "jpg", True
    extension = _extension(source.stored(index)[0], data)
    if coding.size is None:
        return data, extension, True
    try:
        smaller = _resized(source, index, coding)
    except Exception:  # decoders raise anything on damaged files
        return data, extension, False
    return (data, extension, True) if smaller is None else (smaller, "jpg", True)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _resized(source: ImageSource, index: int, coding: Coding) -> bytes | None:
    """A smaller image as a JPEG file; None where it is small enough."""
    assert coding.size is not None
    picture = source.open(index)
    if (shorter := min(picture.size)) <= coding.size:
        picture.load()  # whether it can be decoded
        return None
    sides = tuple(max(1, round(side * coding.size / shorter)) for side in picture.size)
    picture.reduce(shorter / coding.size)
    image = picture.load().resize((sides[0], sides[1]), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=coding.quality)
    return buffer.getvalue()


def _extension(name: str, data: bytes) -> str:
    """Of the name where it is known, else of the content."""
    named = os.path.splitext(name)[1].lower()
    if named in extensions():
        return named[1:]
    try:
        kind = open_image(io.BytesIO(data)).format or "JPEG"
    except Exception:  # no image: it is found to be none when it is decoded
        return "jpg"
    return EXTENSIONS.get(kind, kind.lower())


def filename(plan: Plan, index: int) -> str | None:
    """What an image was called in its folder; None where it was no file, or is no plain name."""
    name = plan.source.stored(index)[0]
    return None if plan.source.in_memory or tidy_name(name) != name else name


def beside(plan: Plan, index: int) -> list[tuple[str, bytes]]:
    """What stands beside an image: its label as ``.cls``, its name as ``.json``."""
    label, name, key = label_of(plan, index), filename(plan, index), f"{index:09}"
    found = [] if label is None else [(f"{key}.cls", label.encode())]
    return found if name is None else [*found, (f"{key}.json", _described(name))]


def label_of(plan: Plan, index: int) -> str | None:
    """An image's label as a shard says it."""
    labels = plan.source.labels
    return None if labels is None else str(int(labels[index]))


def _described(name: str) -> bytes:
    return json.dumps({"filename": name}).encode()


def size_in_tar(sizes: Iterable[int]) -> int:
    """Bytes that files of these sizes take in a tar archive."""
    return sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes)


def write_shard(
    plan: Plan, number: int, stopped: Callable[[], bool] = lambda: False
) -> WrittenShard:
    """Write a shard under a temporary name, read it back, flush it, and give it its name.

    Args:
        plan: of the shards.
        number: of the shard.
        stopped: asked before every image whether to stop.

    Raises:
        UnreadableError: an image cannot be read.
        StoppedError: as was asked.
        WriteError: the disk is full, or what was written reads back otherwise.
    """
    path, bad, sums = plan.path(number), list[int](), list[int]()

    def write(file: IO[bytes]) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for index in plan.images(number):
                if stopped():
                    raise StoppedError
                data, extension, decoded = encode(plan.source, index, plan.coding)
                bad.extend([] if decoded else [index])
                sums.append(zlib.crc32(data))
                _add(tar, f"{index:09}.{extension}", data)
                for name, content in beside(plan, index):
                    _add(tar, name, content)
        file.flush()
        _read_back(plan, number, Path(file.name), sums)

    write_whole(path, write)
    return WrittenShard(len(sums), path.stat().st_size, bad)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # of no time and no owner: the same images give the same bytes
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _read_back(plan: Plan, number: int, path: Path, sums: list[int]) -> None:
    """Compare names, labels and the content of every image with what was to be written."""
    found = _listed(plan, number, path)
    if found is None or list(_sums(path, found)) != sums:
        raise OSError("it reads back otherwise than it was written; look at the disk")


def _sums(path: Path, entries: Entries) -> Iterator[int]:
    with path.open("rb") as file:
        for offset, size in zip(entries.offsets, entries.sizes, strict=True):
            file.seek(offset)
            yield zlib.crc32(file.read(size))


def is_of_plan(plan: Plan, number: int) -> bool:
    """Whether a shard is there, whole, and holds the images that the plan gives to it."""
    path = plan.path(number)
    return path.is_file() and _listed(plan, number, path) is not None


def _listed(plan: Plan, number: int, path: Path) -> Entries | None:
    """What a shard holds; None where that is not what the plan says."""
    try:
        found = read_tar(path)
    except (OSError, ValueError):
        return None
    images = plan.images(number)
    if found.labels != [label_of(plan, index) for index in images]:
        return None
    names = [filename(plan, index) or f"{index:09}." for index in images]
    same = (
        got == wanted or (wanted.endswith(".") and got.startswith(wanted))
        for got, wanted in zip(found.names, names, strict=True)
    )
    return found if all(same) else None
