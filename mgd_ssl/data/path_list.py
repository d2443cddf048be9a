"""Many strings in two arrays."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray


class PathList(Sequence[str]):
    """A read-only list of strings in two arrays.

    A million Python strings are copied into every worker: forked ones by their reference counts,
    spawned ones by pickling. Two arrays are shared, or pickled as blocks.

    Args:
        paths: the strings.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self.bytes: NDArray[np.uint8] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self.ends: NDArray[np.int64] = np.cumsum([len(path) for path in encoded], dtype=np.int64)

    @classmethod
    def of(cls, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> Self:
        """The strings that stand in ``text`` one after the other, each up to its end."""
        made = cls(())
        made.bytes, made.ends = text, ends
        return made

    def __len__(self) -> int:
        """Number of paths."""
        return len(self.ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        """Path ``index``."""
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.bytes[start : self.ends[index]].tobytes())

    def __iter__(self) -> Iterator[str]:
        """All paths in order."""
        return map(self.__getitem__, range(len(self)))
