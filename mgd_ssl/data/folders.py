"""Folder trees of image files: a scan that is fast for millions of files, and class labels."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.formats import FOREIGN, extensions
from mgd_ssl.progress import tracked

# What systems, network drives and photo programs leave beside images.
JUNK = {
    *("__macosx", "@eadir", "@tmp", "@__thumb", "@transcode", "@synoresource", "#snapshot"),
    *("#recycle", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "recycled"),
    *("system volume information", "lost+found", "network trash folder", "temporary items"),
    *("__pycache__", "dfsrprivate", "$extend", "windowsimagebackup", "captureone", "_vti_cnf"),
}
MOST_REASONS = 10
JUNK_NAMES = re.compile(r".*\.lr(data|cat-data)|found\.\d{3}|.*\.cocatalogdb", re.IGNORECASE)


@dataclass
class Scan:
    """What a folder holds.

    Attributes:
        paths: sorted relative paths of the images.
        skipped: what was left out, counted by reason, under the top folder that it is in ("" for
            none).
        trees: the names of the folders beside each other, under the folder that they are in.
    """

    paths: list[str] = field(default_factory=list)
    skipped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    trees: dict[str, list[str]] = field(default_factory=dict)

    @property
    def left_out(self) -> Counter[str]:
        """What was left out of the whole folder, counted by reason."""
        return sum(self.skipped.values(), Counter[str]())

    @property
    def barren(self) -> dict[str, Counter[str]]:
        """Top folders without an image, and what was skipped in each."""
        fruitful = {path.partition(os.sep)[0] for path in self.paths}
        return {n: self.skipped[n] for n in self.trees.get("", []) if n not in fruitful}


def scan(root: Path) -> Scan:
    """List the images under ``root``: files, and links to files, of a known extension.

    Hidden files and folders, folders of :data:`JUNK`, links that lead nowhere, pipes and sockets
    are left out; every other file is counted by its extension. No file is opened.
    """
    found = Scan()
    for _ in tracked(_walk(str(root), found), f"listing {root}"):
        pass
    found.paths.sort()
    return found


def holds_images(root: Path) -> bool:
    """Whether there is an image under ``root``; the search ends with the first."""
    return next(_walk(str(root), Scan()), None) is not None


def class_folders(root: Path) -> list[str]:
    """Sorted names of the folders of ``root`` that hold images."""
    with os.scandir(root) as entries:
        back = {e.name for e in entries if e.is_symlink() and _follow(e, ()) is None}
    return [n for n in folders_of(root) if n not in back and holds_images(root / n)]


def folders_of(root: Path) -> list[str]:
    """Sorted names of the folders of ``root``, hidden ones and junk left out."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if not is_unwanted(e.name) and is_folder(e))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is neither."""
    with suppress(OSError):
        return entry.is_dir()
    return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file or a link to one; a link to itself is neither."""
    with suppress(OSError):
        return entry.is_file()
    return False


def look_up(root: Path, names: Sequence[str]) -> tuple[list[str], int]:
    """Look files up in the listings of their folders: one listing, not a query for each file.

    Args:
        root: what the names are relative to.
        names: paths of files.

    Returns:
        The names that are no files, and the number of images in their folders that have no name.

    Raises:
        PermissionError: this user may not list a folder.
    """
    folders = defaultdict(set)
    for name in names:
        folder, base = os.path.split(name)
        folders[folder].add(base)
    missing, others = list[str](), 0
    for folder, bases in folders.items():
        there = _files(os.path.join(root, folder))
        missing += [os.path.join(folder, base) for base in sorted(bases - there)]
        others += sum(base.lower().endswith(extensions()) for base in there - bases)
    return missing, others


def _files(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if is_file(entry)}
    except PermissionError:
        raise
    except OSError:
        return set()


def is_unwanted(name: str) -> bool:
    """Whether a folder of this name is hidden, or is left beside images by systems and programs."""
    return name.startswith(".") or name.lower() in JUNK or bool(JUNK_NAMES.fullmatch(name))


def _walk(root: str, found: Scan) -> Iterator[str]:
    """Fill ``found``, and yield the path of each image as it is found."""
    known = extensions()
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while folders:
        relative, trail = folders.pop()
        below = found.trees[relative] = []
        with os.scandir(os.path.join(root, relative)) as entries:
            for entry in entries:
                path = os.path.join(relative, entry.name)
                reason = None
                if entry.name.startswith("."):
                    reason = "hidden"
                elif entry.name.lower().endswith(known) and is_file(entry):
                    found.paths.append(path)
                    yield path
                elif not is_folder(entry):
                    reason = _why_skipped(entry)
                elif is_unwanted(entry.name):
                    reason = f"{entry.name}/"
                else:
                    further = _follow(entry, trail)
                    if further is None:
                        reason = "links that lead back"
                    else:
                        folders.append((path, further))
                        below.append(entry.name)
                if reason is not None:
                    found.skipped[relative.partition(os.sep)[0]][reason] += 1


def _why_skipped(entry: os.DirEntry[str]) -> str:
    if not is_file(entry):
        return "links that lead nowhere" if entry.is_symlink() else "pipes, sockets or devices"
    extension = os.path.splitext(entry.name)[1].lower()
    return extension if 1 < len(extension) < 12 else "without an extension"


def _follow(entry: os.DirEntry[str], trail: tuple[str, ...]) -> tuple[str, ...] | None:
    """The folders that links led out of on the way below ``entry``; None where it leads back."""
    if not entry.is_symlink():
        return trail
    trail = (*trail, os.path.realpath(os.path.dirname(entry.path)))
    target = Path(os.path.realpath(entry.path))
    leads_back = any(Path(left).is_relative_to(target) for left in trail)
    return None if leads_back else trail


def counted(reasons: Counter[str]) -> str:
    """``12 .txt, 3 hidden``, the most frequent first, and the rest together."""
    rows = sorted(reasons.items(), key=lambda row: (-row[1], row[0]))
    rest = sum(count for _, count in rows[MOST_REASONS:])
    rows = rows[:MOST_REASONS] + ([("others", rest)] if rest else [])
    return ", ".join(f"{count:,} {reason}" for reason, count in rows)


def label_paths(root: Path, found: Scan, train: Path | None) -> tuple[list[str], NDArray[np.int64]]:
    """Classes, and labels from the first folder of every path.

    The classes of a validation folder are those of the training folder, so that a class that it
    lacks does not shift the labels. Folders without images are no classes.

    Args:
        root: the folder of the split.
        found: its images.
        train: the folder of the training images where that is another.

    Returns:
        Sorted class names, and labels (N,) into them.

    Raises:
        ValueError: images outside class folders, fewer than two classes, a class that the training
            folder lacks, or one whose images are all of a format that is not read.
    """
    first = [path.partition(os.sep)[0] if os.sep in path else "" for path in found.paths]
    names = sorted(set(first))
    classes = names if train is None else class_folders(train)
    if "" in names or len(classes) < 2:
        outside = f"{found.paths[first.index('')]} is in no class folder" if "" in names else ""
        raise ValueError(
            f"{root}: no labels: {outside or f'{names[0]}/ is the only class folder'}; expected "
            "two or more class folders, and every image in one. Sort the images, or use a command "
            "without labels."
        )
    _check_barren(root, found)
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(
            f"{root}: classes that {train} has not: {', '.join(unknown[:5])}; expected the same "
            "class folders in both. Rename or remove them."
        )
    number = {name: label for label, name in enumerate(classes)}
    return classes, np.array([number[name] for name in first], dtype=np.int64)


def _check_barren(root: Path, found: Scan) -> None:
    lost = {name: c for name, c in found.barren.items() if set(c) & set(FOREIGN)}
    if lost:
        name, reasons = next(iter(lost.items()))
        raise ValueError(
            f"{root}: {name}/ would be a class, but of its images none can be read "
            f"({counted(reasons)}); expected formats such as .jpg, .png or .webp. Convert them, or "
            f"move {name}/ away."
        )
