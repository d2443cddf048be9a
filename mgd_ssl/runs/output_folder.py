"""A folder that a command fills with many files: one command at a time, sizes in words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mgd_ssl.training.logging import logger

LOCK = ".lock"


@contextmanager
def alone(out: Path, does: str) -> Iterator[None]:
    """Inside, no other command writes into the same folder, which is made.

    Args:
        out: the folder.
        does: what the other would do, in words: "packs".

    Raises:
        ValueError: another does.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"out: another command {does} into {out}; let it end first.") from error
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def kept(whole: Callable[[], int]) -> Iterator[None]:
    """Whatever ends the making of parts early, say how many stay."""
    try:
        yield
    except BaseException:
        logger.warning("%d parts are whole and stay; the same command goes on with them", whole())
        raise


def gigabytes(size: int) -> str:
    """Bytes in words: 1.25 GB, 3.00 MB."""
    return f"{size / 1e9:.2f} GB" if size > 1e8 else f"{size / 1e6:.2f} MB"
