"""Files that are whole or absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


class WriteError(OSError):
    """A file could not be written; what stood there before still stands."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, flush it to the disk, then give it its name.

    Raises:
        WriteError: the disk is full or cannot be written; ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in RuntimeError
        temporary.unlink(missing_ok=True)
        kept = f"the one before it stays in {path}" if path.exists() else "nothing was left behind"
        raise WriteError(
            f"{path}: could not be written: {error}; {kept}. Free disk space in {path.parent} and "
            "run again, a training run with --resume"
        ) from error
