"""Folder trees of image files: splits, classes, and a scan that is fast for millions of files."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
VAL_NAMES = ("val", "valid", "validation", "test")


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


def split_folder(path: Path, split: str) -> Path:
    """The folder of ``split`` under ``path``; ``path`` itself where it has no such folders.

    Raises:
        ValueError: "val" is wanted and there is none, or ``val/`` stands there without ``train/``.
    """
    train = path / "train"
    val = next((path / name for name in VAL_NAMES if (path / name).is_dir()), None)
    if split == "val":
        if val is None:
            raise ValueError(
                f"{path}: no validation images; expected a folder named {', '.join(VAL_NAMES)} "
                "beside train. Add one, or use a command that needs only training images."
            )
        return val
    if train.is_dir():
        return train
    if val is not None:
        raise ValueError(
            f"{path}: {val.name}/ without train/; expected both. Add train/, or name {val} itself "
            "to train on its images."
        )
    return path


def find_images(root: Path) -> list[str]:
    """Sorted relative paths of the images under ``root``, hidden files and folders left out."""
    return sorted(_walk(str(root)))


def _walk(root: str) -> Iterator[str]:
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while folders:
        relative, trail = folders.pop()
        with os.scandir(os.path.join(root, relative)) as entries:
            for entry in entries:
                path = os.path.join(relative, entry.name)
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(EXTENSIONS):
                    yield path
                elif entry.is_dir():
                    below = _follow(entry, trail)
                    if below is not None:
                        folders.append((path, below))


def _follow(entry: os.DirEntry[str], trail: tuple[str, ...]) -> tuple[str, ...] | None:
    """The folders that links led out of on the way below ``entry``; None where it leads back."""
    if not entry.is_symlink():
        return trail
    trail = (*trail, os.path.realpath(os.path.dirname(entry.path)))
    target = Path(os.path.realpath(entry.path))
    leads_back = any(Path(left).is_relative_to(target) for left in trail)
    return None if leads_back else trail


def label_paths(path: Path, root: Path, paths: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Classes, and labels from the first folder of every path.

    The classes of a validation folder are those of ``train/`` beside it, so that a class that it
    lacks does not shift the labels.

    Args:
        path: the data folder.
        root: the folder of the split, ``path`` or under it.
        paths: relative to ``root``.

    Returns:
        Sorted class names, and labels (N,) into them.

    Raises:
        ValueError: images outside class folders, fewer than two classes, or a class that
            ``train/`` lacks.
    """
    first = [relative.partition(os.sep)[0] if os.sep in relative else "" for relative in paths]
    found = sorted(set(first))
    if "" in found or len(found) < 2:
        got = f"{paths[first.index('')]} outside one" if "" in found else f"only {found[0]}/"
        raise ValueError(
            f"{root}: no labels, as class folders are wanted and there is {got}; expected two or "
            "more with every image in one. Sort the images, or use a command without labels."
        )
    train = path / "train"
    classes = _subfolders(train) if train.is_dir() else found
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise ValueError(
            f"{root}: classes that {train} has not: {', '.join(unknown[:5])}; expected the same "
            "class folders in both. Rename or remove them."
        )
    number = {name: label for label, name in enumerate(classes)}
    return classes, np.array([number[name] for name in first], dtype=np.int64)


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
