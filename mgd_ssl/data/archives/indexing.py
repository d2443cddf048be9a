"""Making the index of archives once, keeping it beside them, and telling when it is too old."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from mgd_ssl.data.archives.array_file import ArrayFile, open_arrays, write_arrays
from mgd_ssl.data.archives.entries import Entries, tabled
from mgd_ssl.data.archives.index import Archive, ArchiveIndex, Part, index_content
from mgd_ssl.data.sources import THREADS
from mgd_ssl.files import WriteError
from mgd_ssl.progress import tracked

logger = logging.getLogger(__name__)
MOST_NAMED = 3
Read = Callable[[Path], Entries]


def open_index(folder: Path, names: Sequence[str], group: str, read: Read) -> ArchiveIndex:
    """Open the index of some archives of a folder; make it where there is none, or it is old.

    It is a hidden file in the folder or, where that cannot be written to, in the user's cache.
    Archives that have changed or are new are read again, the others are not.

    Args:
        folder: of the archives.
        names: of the archives, in the order of the images.
        group: what distinguishes these archives from others in the folder.
        read: lists the images of one archive.

    Raises:
        ValueError: archives that cannot be read; the first are named.
    """
    archives = [Archive.of(folder / name) for name in names]
    places = index_places(folder, group)
    fresh = _find(folder, places, archives)
    if fresh is not None:
        return fresh
    with _alone(places):
        fresh = _find(folder, places, archives)  # another process may have made it meanwhile
        return _make(folder, places, archives, read) if fresh is None else fresh


def index_places(folder: Path, group: str) -> list[Path]:
    """Where an index may be: beside the archives, or in the user's cache."""
    beside = folder / f".{group}.mgd-index"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(os.fsencode(os.path.realpath(beside))).hexdigest()[:32]
    return [beside, cache / "mgd_ssl" / "indexes" / f"{digest}.mgd-index"]


def _find(folder: Path, places: Sequence[Path], archives: list[Archive]) -> ArchiveIndex | None:
    """The index of exactly these archives."""
    found = (_opened(folder, place) for place in places)
    return next((i for i in found if i is not None and i.archives == archives), None)


def _opened(folder: Path, place: Path) -> ArchiveIndex | None:
    try:
        return ArchiveIndex(folder, open_arrays(place))
    except OSError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("index %s cannot be used, and is made again: %s", place, error)
        return None


@contextmanager
def _alone(places: Sequence[Path]) -> Iterator[None]:
    """Inside, no other process makes the same index, where the disk knows locks."""
    for place in places:
        lock = FileLock(f"{place}.lock")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError):
            continue
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(lock.lock_file)
            lock.release()
        return
    yield


def _make(
    folder: Path, places: Sequence[Path], archives: list[Archive], read: Read
) -> ArchiveIndex:
    """Read the archives that are new, keep what the last index says of the others."""
    olds = (_opened(folder, place) for place in places)
    old = next((index for index in olds if index is not None), None)
    kept = {archive: i for i, archive in enumerate(old.archives)} if old else {}
    fresh = [archive for archive in archives if archive not in kept]
    _announce(folder, places[0], archives, fresh, old)
    parts = _read_all(folder, fresh, read)
    if old is not None:
        parts |= {a: old.part(kept[a]) for a in archives if a in kept}
    content = index_content(archives, [parts[archive] for archive in archives])
    return ArchiveIndex(folder, _stored(places, *content))


def _read_all(folder: Path, archives: Sequence[Archive], read: Read) -> dict[Archive, Part]:
    """The images of each archive.

    Raises:
        ValueError: archives that cannot be read.
    """
    errors: list[str] = []

    def attempt(archive: Archive) -> Part | None:
        try:
            entries = read(folder / archive.name)
        except ValueError as error:
            errors.append(str(error))
            return None
        return Part(tabled(entries), len(entries.names), dict(entries.skipped))

    with ThreadPoolExecutor(THREADS) as pool:
        read_ones = pool.map(attempt, archives)
        parts = list(tracked(read_ones, f"index of {folder}", len(archives), "archives"))
    if errors:
        more = f" ({len(errors)} of {len(archives)} cannot be used)" if len(errors) > 1 else ""
        raise ValueError("; ".join(sorted(errors)[:MOST_NAMED]) + more)
    return {archive: part for archive, part in zip(archives, parts, strict=True) if part}


def _announce(
    folder: Path,
    place: Path,
    archives: Sequence[Archive],
    fresh: Sequence[Archive],
    old: ArchiveIndex | None,
) -> None:
    """Say why archives are read."""
    if old is None:
        read = "1 archive is" if len(fresh) == 1 else f"{len(fresh)} archives are"
        logger.info("%s: %s read once, for the index %s", folder, read, place)
        return
    before, now = {a.name for a in old.archives}, {a.name for a in archives}
    changes = {
        "are new": now - before,
        "have changed": {a.name for a in fresh} & before,
        "are gone": before - now,
    }
    said = [f"{len(names)} {how}, such as {min(names)}" for how, names in changes.items() if names]
    logger.warning(
        "%s: the index is older than its archives: %s; it is brought up to date",
        *(folder, "; ".join(said) or "their order has changed"),
    )


def _stored(places: Sequence[Path], arrays: dict[str, Any], meta: dict[str, Any]) -> ArrayFile:
    """The index in the first place that can be written to, else in memory."""
    for place in places:
        try:
            write_arrays(place, arrays, meta)
            return open_arrays(place)
        except WriteError as error:
            logger.info("index %s: %s", place, error)
    logger.warning("%s: the index cannot be kept, so each run reads the archives", places[0])
    return ArrayFile(arrays, meta)
