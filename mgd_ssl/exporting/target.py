"""What each target of an export does: refuse, write, load again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from mgd_ssl.exporting.original import Original, Outputs

Runnable = Callable[[Tensor], Outputs]


class Target(ABC):
    """A library, and the file that it loads.

    Attributes:
        name: in `EXPORT_TARGETS`.
        ending: of the file's usual name; the file ends in its last part.
        packages: module -> requirement, as pip takes it, of what the target needs beside this
            project's own requirements.
    """

    name: ClassVar[str]
    ending: ClassVar[str]
    packages: ClassVar[Mapping[str, str]] = {}

    def refusal(self, original: Original) -> str:
        """Why the target has no such network, in words; empty where it has."""
        return "it is a detector" if original.is_detector else ""

    @abstractmethod
    def write(self, original: Original, path: Path) -> None:
        """Write the file.

        Raises:
            ValueError: the network cannot be converted.
        """

    @abstractmethod
    def load(self, original: Original, path: Path) -> Runnable:
        """Load the file in the library that it is for: images (N,3,S,S) -> outputs by name.

        Args:
            original: what was written. Its weights are not used.
            path: of the file.

        Raises:
            ValueError: the library does not take it.
        """

    @abstractmethod
    def loading(self, original: Original, file: str) -> list[str]:
        """Lines of Python that load the file without this project, as far as possible."""

    def beside(self, original: Original) -> dict[str, str]:
        """Further files: ending -> text."""
        return {}

    def caveats(self, original: Original) -> list[str]:
        """What the library's user must set by hand."""
        return []
