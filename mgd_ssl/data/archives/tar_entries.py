"""The images inside a tar archive: a shard in WebDataset's layout, or a folder that was packed."""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import NamedTuple

from mgd_ssl.data.archives.entries import Entries, tidy_name, unwanted_part
from mgd_ssl.data.formats import extensions

LABEL_KEYS = ("label", "cls", "class")
MOST_TEXT = 2**16  # bytes that a label or a description may have
END = bytes(2 * tarfile.BLOCKSIZE)
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)


@dataclass
class Sample:
    """What the archive holds under one key: images by extension, label and name where it says.

    Attributes:
        images: by extension.
        beside: the kinds of the files that may describe them, "cls" and "json".
        unread: how many of these files do not.
        label: that they say.
        filename: what they say that the image was called in its folder.
    """

    images: dict[str, TarInfo] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    unread: int = 0
    label: str | None = None
    filename: str | None = None


class Stored(NamedTuple):
    """An image, where it begins in the archive, how long it is, and its label."""

    name: str
    offset: int
    size: int
    label: str | None


class RepeatedNameError(Exception):
    """Two images of an archive have one name."""


def read_tar(path: Path) -> Entries:
    """List the images of a tar archive, and their labels; nothing is unpacked.

    In WebDataset's layout the files of a sample share their name up to the first dot: an image,
    and ``.cls`` (a number or a name) or ``.json`` (``label``, ``filename``) beside it. Where no
    image has such a file, each is a sample of its own, and they come in the order of their names.

    Links, devices, names that lead out of the archive and files of other kinds are skipped and
    counted. Nothing that the archive says is opened.

    Raises:
        ValueError: no tar archive, a compressed, damaged or truncated one, or a sample of several
            images.
    """
    found = Entries()
    samples: dict[str, Sample] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member, name in _files(tar, path, found):
                _take(tar, member, name, samples, found)
    except RepeatedNameError as error:
        raise ValueError(f"{path}: {error}") from error
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise ValueError(f"{path}: {_why(path, error)}") from error
    sharded = any(sample.images and sample.beside for sample in samples.values())
    images = [i for k, s in samples.items() for i in _images(path, k, s, sharded, found)]
    for image in images if sharded else sorted(images, key=lambda image: image.name):
        found.names.append(image.name)
        found.offsets.append(image.offset)
        found.sizes.append(image.size)
        found.labels.append(image.label)
    return found


def _files(tar: TarFile, path: Path, found: Entries) -> Iterator[tuple[TarInfo, str]]:
    """The plain files that are not left out, and their tidied names; then a check of the end."""
    size = path.stat().st_size
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # which would grow with the archive
        if member.isreg() and not member.issparse() and member.offset_data + member.size > size:
            raise tarfile.ReadError(f"{member.name} ends behind the end of the file")
        name = tidy_name(member.name)
        reason = _why_skipped(member, name)
        if reason is None and name is not None:
            yield member, name
        elif reason:
            found.skipped[reason] += 1
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(len(END)) != END:
        raise tarfile.ReadError("the end mark is missing")


def _why_skipped(member: TarInfo, name: str | None) -> str | None:
    """Why a member is left out; "" for a folder, None where it is not."""
    if member.isdir():
        return ""
    if member.type in LINKS:
        return "links in the archive"
    if not member.isreg() or member.issparse():
        return "members that are no plain files"
    return "names that lead out of the archive" if name is None else unwanted_part(name)


def _take(
    tar: TarFile, member: TarInfo, name: str, samples: dict[str, Sample], found: Entries
) -> None:
    """Add a file to its sample."""
    folder, base = os.path.split(name)
    stem, _, extension = base.partition(".")
    key, written, extension = os.path.join(folder, stem), extension, extension.lower()
    if f".{extension}".endswith(extensions()):
        sample = samples.setdefault(key, Sample())
        member.name = name
        if written in sample.images:
            raise RepeatedNameError(f"two images {name}; expected one. Pack it without the other.")
        sample.images[written] = member
    elif extension in ("cls", "json"):
        sample = samples.setdefault(key, Sample())
        sample.beside += (extension,)
        _describe(sample, extension, _text(tar, member))
    else:
        found.skipped[f".{extension}" if 0 < len(extension) < 12 else "without an extension"] += 1


def _text(tar: TarFile, member: TarInfo) -> str:
    file = tar.extractfile(member)
    return file.read(MOST_TEXT).decode("utf-8", "replace").strip() if file else ""


def _describe(sample: Sample, extension: str, text: str) -> None:
    """Take the label, and the name that the image had in its folder."""
    if extension == "cls":
        sample.label = text if text not in ("", "-1") else None
        return
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        sample.unread += 1
        return
    labels = (said.get(key) for key in LABEL_KEYS)
    plain = (str(v) for v in labels if isinstance(v, int | str) and not isinstance(v, bool))
    label = next(plain, None)
    if sample.label is None and label not in ("", "-1"):
        sample.label = label
    if isinstance(name := said.get("filename"), str):
        sample.filename = tidy_name(name)


def _images(path: Path, key: str, sample: Sample, sharded: bool, found: Entries) -> list[Stored]:
    """The images of a sample and what they are called: one in a shard, any number elsewhere."""
    images = sample.images
    if not sharded:
        found.skipped.update(f".{extension}" for extension in sample.beside)
        return [Stored(m.name, m.offset_data, m.size, None) for m in images.values()]
    if sample.unread:
        found.skipped[".json without a description"] += sample.unread
    plain = [extension for extension in images if "." not in extension] or list(images)
    if len(plain) > 1:
        raise ValueError(
            f"{path}: sample {key} has {len(plain)} images, {', '.join(sorted(plain))}; expected "
            "one a sample. Write the shards without the others."
        )
    if not plain:
        found.skipped["samples without an image"] += 1
        return []
    if len(images) > 1:
        found.skipped["further images of a sample"] += len(images) - 1
    member = images[plain[0]]
    name = sample.filename or member.name
    return [Stored(name, member.offset_data, member.size, sample.label)]


def _why(path: Path, error: Exception) -> str:
    """What is wrong with an archive, and what helps."""
    with path.open("rb") as file:
        compressed = file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
    if compressed:
        return (
            "a compressed archive, whose images cannot be read one by one; expected a plain tar "
            "archive. Unpack it: gunzip, bunzip2 or unxz"
        )
    return (
        f"truncated or damaged ({error}); expected a whole tar archive that ends with two blocks "
        "of zeros. Fetch or pack it again"
    )
