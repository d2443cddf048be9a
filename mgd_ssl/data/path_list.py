"""Many strings in two arrays."""

import os

import numpy as np


class PathList:
    """A read-only list of strings in two arrays.

    A million Python strings are copied into every worker: forked ones by their reference counts,
    spawned ones by pickling. Two arrays are shared, or pickled as blocks.
    """

    def __init__(self, paths: list[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(path) for path in encoded], dtype=np.int64)

    def __len__(self) -> int:
        """Number of paths."""
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        """Path ``index``."""
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._bytes[start : self._ends[index]].tobytes())
