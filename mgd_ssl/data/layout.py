"""What a folder of images means: which part is trained on, which is held out, what is left over."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgd_ssl.data.folders import folders_of, holds_images, is_file
from mgd_ssl.data.formats import extensions
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import NoValidationError

TRAIN, VAL, TEST, UNLABELED = "train", "val", "test", "unlabeled"
KINDS = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset", "validationset"), VAL),
    **dict.fromkeys(("test", "testing", "testset", "testingset"), TEST),
    **dict.fromkeys(("unlabeled", "unlabelled"), UNLABELED),
}
NEUTRAL = {"set", "data", "dataset", "split", "part", "images", "image", "imgs", "img", "photos"}
Holds = Callable[[Path], bool]


@dataclass(frozen=True)
class Layout:
    """What a data folder means.

    Attributes:
        train: folder of the training images; None where there is only a validation part.
        val: folder of the validation images; None where there is none.
        unused: what else holds images, and belongs to neither.
        chosen: whether the training folder was named, and not told by its name.
    """

    train: Path | None
    val: Path | None = None
    unused: tuple[str, ...] = ()
    chosen: bool = False


def find_layout(
    path: Path,
    *,
    labeled: bool = False,
    train_folder: str | None = None,
    val_folder: str | None = None,
    holds: Holds = holds_images,
) -> Layout:
    """Tell by the names of its folders what a data folder means.

    Folders are the parts of a data set where they are called so in any case, with a year or a
    neutral word (``Train``, ``val2017``, ``test_set``), or where two are called alike but for that
    (``seg_train``, ``seg_test``). Val is taken before test. A tree without such folders is training
    images as a whole; so are ``train`` and ``unlabeled`` without val where no labels are wanted.

    Args:
        path: an existing folder.
        labeled: whether labels are wanted, so that a folder ``unlabeled`` is of no use.
        train_folder: the folder under ``path`` of the training images; "." for all of ``path``.
        val_folder: the folder under ``path`` of the validation images.
        holds: whether a folder holds data, be it images or files of them.

    Raises:
        ValueError: the names leave open which images are meant, or a folder given is none.
    """
    names = folders_of(path)
    kinds = split_kinds(names)
    train, val = _given(path, train_folder, "train"), _given(path, val_folder, "val")
    if train is None:
        train = _one(path, [name for name in names if kinds.get(name) == TRAIN], "train")
    if val is None and train != path:
        val = _one(path, _validation(path, kinds, train, holds), "val")
    if train is None and val is None:
        return Layout(path)
    if val_folder is not None:
        _check_apart(path, train, val_folder)
    unused = [] if train == path else _unused(path, names, [f for f in (train, val) if f], holds)
    if val is None and train_folder is None and not labeled and _all_unlabeled(unused, kinds):
        return Layout(path)  # nothing is held out, and nothing needs labels
    if train_folder is None:
        _check_guess(path, Layout(train, val, tuple(unused)), kinds, labeled)
    return Layout(train, val, tuple(unused), chosen=train_folder is not None)


def split_folder(path: Path, layout: Layout, split: Split) -> Path:
    """The folder of a split.

    Raises:
        NoValidationError: "val" is wanted and there is none.
        ValueError: "train" is wanted, and there is a validation part alone.
    """
    if split == "train" and layout.train is None:
        assert layout.val is not None
        raise ValueError(
            f"{path}: {layout.val.name}/ without train/; expected both. Add train/, or name "
            f"{layout.val} itself to train on its images."
        )
    root = layout.train if split == "train" else layout.val
    if root is None:
        raise NoValidationError(
            f"{path}: no validation images; expected a folder named val, valid, validation or test "
            "beside train. Add one, name one with --val-folder, or use a command that needs only "
            "training images."
        )
    return root


def split_kinds(names: Sequence[str]) -> dict[str, str]:
    """Kinds of those of the folders beside each other that are called like parts of a data set."""
    read = {name: found for name in names if (found := _read(name))}
    return {
        name: kind
        for name, (kind, rest) in read.items()
        if not rest or any(rest == its and kind != other for other, its in read.values())
    }


def said_kinds(names: Sequence[str]) -> set[str]:
    """The kinds that the names say, even where they differ in other words too."""
    return {found[0] for name in names if (found := _read(name))}


def _read(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The kind that a name says, and its words that are of no kind; None for other names."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    kinds = [KINDS[word] for word in words if word in KINDS]
    if len(kinds) != 1:
        return None
    return kinds[0], tuple(word for word in words if word not in KINDS and word not in NEUTRAL)


def _given(path: Path, name: str | None, part: str) -> Path | None:
    """The folder that the user named."""
    if name is None:
        return None
    folder = Path(os.path.normpath(path / name))
    if not folder.is_dir():
        there = ", ".join(folders_of(path)[:10])
        raise ValueError(
            f"--{part}-folder: got {name}, which is no folder in {path}; "
            + (f"expected one of {there}" if there else "it holds none: leave the option out")
            + ("; or . for all of it." if part == "train" else ".")
        )
    return path if folder == Path(os.path.normpath(path)) else folder


def _one(path: Path, found: Sequence[str], part: str) -> Path | None:
    """The one folder of a kind, None where there is none."""
    if len(found) > 1:
        whole = ", or all of the tree: --train-folder ." if part == "train" else ""
        raise ValueError(
            f"{path}: {listed(found)} are all called like its {part} part; expected one. Name it: "
            f"--{part}-folder {found[0]}{whole}"
        )
    return path / found[0] if found else None


def _validation(path: Path, kinds: dict[str, str], train: Path | None, holds: Holds) -> list[str]:
    """Folders called val, apart from the training folder; where there are none, called test."""
    filled = {name: kind for name, kind in kinds.items() if kind in (VAL, TEST)}
    filled = {n: kind for n, kind in filled.items() if train is None or _apart(path / n, train)}
    filled = {name: kind for name, kind in filled.items() if holds(path / name)}
    return [n for n in filled if filled[n] == VAL] or list(filled)


def _unused(path: Path, names: Sequence[str], used: Sequence[Path], holds: Holds) -> list[str]:
    """What else under ``path`` holds images."""
    heads = {folder.relative_to(path).parts[0] for folder in used if folder.is_relative_to(path)}
    others = [f"{n}/" for n in names if n not in heads and holds(path / n)]
    with os.scandir(path) as entries:
        images = (e for e in entries if e.name.lower().endswith(extensions()) and is_file(e))
        loose = sum(not entry.name.startswith(".") for entry in images)
    return [*others, f"{loose} images outside folders"] if loose else others


def _all_unlabeled(unused: Sequence[str], kinds: dict[str, str]) -> bool:
    return bool(unused) and all(kinds.get(name.rstrip("/")) == UNLABELED for name in unused)


def _check_apart(path: Path, train: Path | None, val_folder: str) -> None:
    val = _given(path, val_folder, "val")
    assert val is not None
    if train is None:
        raise ValueError(
            f"--val-folder: got {val_folder} without a training folder in {path}; expected both. "
            "Name it too: --train-folder NAME"
        )
    if not _apart(val, train):
        raise ValueError(
            f"--val-folder: got {val_folder}, which has images in common with the training folder "
            f"{train}; expected images of its own. Name two folders beside each other."
        )


def _apart(one: Path, other: Path) -> bool:
    """Whether no image can be in both folders."""
    return not (one.is_relative_to(other) or other.is_relative_to(one))


def _check_guess(path: Path, layout: Layout, kinds: dict[str, str], labeled: bool) -> None:
    """Refuse names that leave open which images are meant."""
    parts = [folder.name for folder in (layout.train, layout.val) if folder]
    others = [u for u in layout.unused if kinds.get(u.rstrip("/")) not in (VAL, TEST)]
    unlabeled = [u for u in others if kinds.get(u.rstrip("/")) == UNLABELED]
    whole = layout.train is not None and layout.val is not None
    if not others or (whole and not unlabeled) or (labeled and (whole or others == unlabeled)):
        return
    options = " or ".join(f"--train-folder {n}" for n in [*parts, *(u[:-1] for u in unlabeled)])
    raise ValueError(
        f"{path}: images in {listed(parts)} and in {', '.join(others[:5])}; expected train/ and "
        "val/ alone, or folders of which none is called like a part of a data set. Say which "
        f"images to train on: {options}, or all of the tree: --train-folder ."
    )


def listed(names: Sequence[str]) -> str:
    """``a/, b/``."""
    return ", ".join(f"{name}/" for name in names)
