"""What is written of features, and what each kind of file does with it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FeatureTable:
    """Features of images, read part by part: together they may be larger than the memory.

    Attributes:
        files: of the N images, in words of the data.
        labels: (N,) int64; None where the data has none.
        dimension: D of the features.
        parts: gives their rows (n,D) float32, one part after the other.
        facts: plain values that say what the features are of.
    """

    files: Sequence[str]
    labels: NDArray[np.int64] | None
    dimension: int
    parts: Callable[[], Iterator[NDArray[np.float32]]]
    facts: Mapping[str, Any]

    @property
    def metadata(self) -> str:
        """The facts as JSON."""
        return json.dumps(self.facts)


class FeatureFile(ABC):
    """A kind of file. The same table gives the same bytes.

    Attributes:
        packages: module -> requirement, as pip takes it, of what the kind needs beside this
            project's own requirements.
    """

    packages: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    @abstractmethod
    def write(file: IO[bytes], table: FeatureTable) -> None:
        """Write the whole file."""
