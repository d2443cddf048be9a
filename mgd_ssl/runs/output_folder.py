"""A folder that a command fills with many files: one command at a time, sizes in words."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from mgd_ssl.cache.parts import write_part
from mgd_ssl.training.logging import logger

LOCK = ".lock"
PART_IMAGES = 1024
Part = tuple[Path, dict[str, Tensor]]


@contextmanager
def alone(out: Path, does: str, *, waits: bool = False) -> Iterator[None]:
    """Inside, no other command writes into the same folder, which is made.

    Args:
        out: the folder.
        does: what the other would do, in words: "packs".
        waits: until the other has ended, in place of an error.

    Raises:
        ValueError: another does.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not waits:
            raise ValueError(
                f"out: another command {does} into {out}; let it end first."
            ) from error
        logger.info("another command %s into %s; this one waits until it ends", does, out)
        lock.acquire()
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()


def write_parts(parts: Iterable[Part], identity: str, whole: int) -> None:
    """Write parts as they are made; whatever ends that early, say how many stay.

    Args:
        parts: the file and the columns of each.
        identity: of what they are parts of.
        whole: how many are there already.

    Raises:
        WriteError: the disk is full.
    """
    try:
        for path, columns in parts:
            write_part(path, columns, identity)
            whole += 1
    except BaseException:
        logger.warning("%d parts are whole and stay; the same command goes on with them", whole)
        raise


def gigabytes(size: int) -> str:
    """Bytes in words: 1.25 GB, 3.00 MB."""
    return f"{size / 1e9:.2f} GB" if size > 1e8 else f"{size / 1e6:.2f} MB"
