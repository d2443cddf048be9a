"""The images of several sources, one source after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.opening import open_source
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import ImageSource, NoValidationError


class ConcatSource(ImageSource):
    """The images of several sources, with labels that mean the same in all of them.

    Classes of the same name are one class. Labels that are numbers without names are taken to mean
    the same everywhere. Without labels in one of the sources there are none.

    Args:
        sources: at least one.
        classes: names of all classes, where there are more than the sources have.
        labeled: refuse labels that do not go together; else there are none then.

    Raises:
        ValueError: no source, or labels with names in some sources and without in others.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource],
        classes: Sequence[str] | None = None,
        labeled: bool = True,
    ) -> None:
        if not sources:
            raise ValueError("no source of images; expected one or more")
        self.sources = list(sources)
        self._starts = np.cumsum([0, *map(len, sources)])
        self.name = " + ".join(dict.fromkeys(source.name for source in sources))
        self.in_memory = all(source.in_memory for source in sources)
        self.skipped = "; ".join(source.skipped for source in sources if source.skipped)
        self.unused = tuple(name for source in sources for name in source.unused)
        try:
            self.classes = _classes(sources, classes)
            self.labels = _labels(sources, self.classes)
        except ValueError:
            if labeled:
                raise

    def __len__(self) -> int:
        """Number of images."""
        return int(self._starts[-1])

    @property
    def contents(self) -> str:
        """Each source with its images, and what is known of all."""
        if len(self.sources) == 1:
            return super().contents
        parts = " + ".join(source.contents for source in self.sources)
        return f"{parts}; together {len(self):,} images, {self.annotations}"

    @property
    def annotations(self) -> str:
        """What is known of the images; why there are no labels, where some sources have them."""
        some = any(source.labels is not None for source in self.sources)
        differ = "no labels, because not all of them have labels with class names"
        return differ if some and self.labels is None else super().annotations

    def read(self, index: int) -> Image.Image:
        """Decode image ``index``."""
        source, place = self._place(index)
        return source.read(place)

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Open image ``index``."""
        source, place = self._place(index)
        return source.open(place, exif=exif)

    def describe(self, index: int) -> str:
        """Where image ``index`` is."""
        source, place = self._place(index)
        return source.describe(place)

    def encoded(self, index: int) -> bytes | None:
        """The image file of image ``index``."""
        source, place = self._place(index)
        return source.encoded(place)

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` is called, and its size in bytes."""
        source, place = self._place(index)
        return source.stored(place)

    def pieces(self, indices: NDArray[np.int64]) -> list[tuple[ImageSource, NDArray[np.int64]]]:
        """Where images come from: each run of images of the same source."""
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        runs = np.split(np.arange(len(indices)), np.flatnonzero(np.diff(numbers)) + 1)
        found = list[tuple[ImageSource, NDArray[np.int64]]]()
        for run in runs:
            if len(run):
                number = int(numbers[run[0]])
                found += self.sources[number].pieces(indices[run] - self._starts[number])
        return found

    def _place(self, index: int) -> tuple[ImageSource, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sources[number], index - int(self._starts[number])


def _classes(sources: Sequence[ImageSource], classes: Sequence[str] | None) -> list[str] | None:
    """All classes, sorted; None where labels are numbers."""
    named = [source.classes for source in sources if source.labels is not None]
    if len(named) < len(sources):
        return None
    known = [names for names in named if names is not None]
    if 0 < len(known) < len(named):
        unnamed = next(source.name for source in sources if source.classes is None)
        raise ValueError(
            f"{unnamed}: labels without names of classes, beside data with names; expected names "
            "in all of them. Add classes.txt, or use a command without labels on other data."
        )
    every = {name for names in known for name in names} | set(classes or () if known else ())
    return sorted(every) if known else None


def _labels(sources: Sequence[ImageSource], classes: list[str] | None) -> NDArray[np.int64] | None:
    """Labels that count in all classes."""
    number = {name: i for i, name in enumerate(classes or ())}
    found = list[NDArray[np.int64]]()
    for source in sources:
        if source.labels is None:
            return None
        if source.classes is None or classes is None:
            found.append(source.labels)
        else:
            found.append(np.array([number[n] for n in source.classes], np.int64)[source.labels])
    return np.concatenate(found)


def open_sources(
    paths: Sequence[str | Path | None], split: Split, labeled: bool = False, **options: Any
) -> ImageSource:
    """Open data of several places as one; see :func:`open_source`. No place: the embedded sample.

    Validation images are those of the places that have some, with the classes of all.

    Raises:
        NoValidationError: "val" is wanted, and no place has it.
        ValueError: as of `open_source`.
    """
    if len(paths) <= 1:
        return open_source(paths[0] if paths else None, split, labeled, **options)
    if split == "train":
        parts = [open_source(path, split, labeled, **options) for path in paths]
        return ConcatSource(parts, labeled=labeled)
    found, classes = list[ImageSource](), list[str]()
    for path in paths:
        try:
            source = open_source(path, split, labeled, **options)
            found.append(source)
        except NoValidationError:
            source = open_source(path, "train", labeled, **options)
        classes += source.classes or ()
    if not found:
        raise NoValidationError(
            f"{', '.join(map(str, paths))}: no validation images in any; expected some in one of "
            "them. Add them, or use a command that needs only training images."
        )
    return ConcatSource(found, classes, labeled)
