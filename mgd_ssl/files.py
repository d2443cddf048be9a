"""Files that are whole or absent."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WriteError(OSError):
    """A file could not be written; what stood there before still stands."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, flush it to the disk, then give it its name.

    Raises:
        WriteError: the disk is full or cannot be written; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _require_plain(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError | RuntimeError):  # torch.save wraps a full disk in this
            raise
        raise write_error(path, error) from error
    _flush_folder(path.parent)


def write_error(path: Path, error: Exception) -> WriteError:
    """The error that names the file, says what stands there now, and what helps."""
    return WriteError(f"{path}: could not be written: {error}; {_remedy(path, error)}")


def move_whole(written: Path, path: Path) -> None:
    """Give a file of the same file system its name when it is on the disk.

    Raises:
        WriteError: ``path`` cannot be replaced, and is as it was.
    """
    try:
        _require_plain(path)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    _flush_folder(path.parent)


def copy_whole(source: Path, path: Path) -> None:
    """Write another file's bytes; see `write_whole`."""
    with source.open("rb") as original:
        write_whole(path, lambda file: shutil.copyfileobj(original, file, 2**20))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes; see `write_whole`."""
    write_whole(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; see `write_whole`.

    Bytes of a file's name that are no UTF-8 are written as ``\\udcXX``.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def require_writable(path: Path, option: str = "--out") -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Nothing is left behind, and no folder is made.

    Args:
        path: the file, which need not exist, nor its folder.
        option: what names another file, for the message.

    Raises:
        ValueError: it is a folder or a device, or its folder cannot be written to.
    """
    try:
        _require_plain(path)
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{option}: got {path}, which cannot be written: {error}; expected a file in a folder "
            f"that can be written to; name one with {option}"
        ) from error


def require_folder(path: Path, option: str = "--out") -> None:
    """Refuse a folder that could not be made or written to, before the work that is to fill it.

    Nothing is left behind.

    Args:
        path: the folder, which need not exist.
        option: what names another, for the message.

    Raises:
        ValueError: it is a file or a link to nothing, lies in one, or cannot be written to.
    """
    path = path.absolute()
    try:
        place = next(p for p in (path, *path.parents) if os.path.lexists(p))
        if not place.is_dir():
            what = "it is a link to nothing" if place.is_symlink() else "it is no folder"
            raise NotADirectoryError(errno.ENOTDIR, what, str(place))
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise ValueError(
            f"{option}: got {path}, which cannot be written: {error}; expected a folder that is "
            f"there or can be made, and be written to; name one with {option}"
        ) from error


def _require_plain(path: Path) -> None:
    """Refuse what a rename could not replace, or should not: a folder, a device, a pipe."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is a device or a pipe", str(path))


def _remedy(path: Path, error: Exception) -> str:
    """What stands now, and what helps."""
    kept = "nothing was left behind"
    with contextlib.suppress(OSError):
        kept = f"the one before it stays in {path}" if path.is_file() else kept
    if isinstance(error, OSError) and error.errno not in FULL:
        return f"{kept}. Name a file in a folder that can be written to, as with --out"
    return f"{kept}. Free disk space in {path.parent} and run again, a training run with --resume"


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a new name outlives a power failure too."""
    with contextlib.suppress(OSError):  # some file systems cannot, and lose nothing by it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
