"""Opening a data folder: of image files, IDX files or CIFAR batches; or the embedded sample."""

from pathlib import Path
from typing import Literal

import numpy as np

from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.folders import Scan, counted, label_paths, scan
from mgd_ssl.data.layout import Layout, check_no_parts_below, find_layout
from mgd_ssl.data.packed import Packed, find_packed, load_packed
from mgd_ssl.data.sources import ArraySource, ImageSource, NoValidationError

Split = Literal["train", "val"]
SAMPLE = Path(__file__).parent / "sample" / "fashion_mnist.npz"
FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def open_source(
    path: str | Path | None,
    split: Split,
    labelled: bool = False,
    *,
    train_folder: str | None = None,
    val_folder: str | None = None,
    max_pixels: int | None = None,
) -> ImageSource:
    """Open the images at ``path``, recognising the layout by looking.

    None is the embedded sample. A folder may hold IDX files (MNIST, Fashion-MNIST), CIFAR-10 or
    CIFAR-100 as torchvision lays them out, ``train/`` and ``val/`` of class folders, or any tree of
    images, which is then all of split "train"; see :func:`find_layout`.

    Args:
        path: folder, or None.
        split: "train" or "val".
        labelled: refuse a source without labels.
        train_folder: the folder under ``path`` of the training images, "." for all of it; by
            default it is told by its name.
        val_folder: the folder under ``path`` of the validation images.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.

    Raises:
        NoValidationError: "val" is wanted, and there is none.
        ValueError: no such folder, no images, names that leave open which are meant, or no labels
            where they are wanted.
    """
    if split not in ("train", "val"):
        raise ValueError(f'split {split!r}; expected "train" or "val".')
    path = None if path is None else Path(path)
    packed = None if path is None else _find_packed(path)
    if path is None or packed:
        _refuse_folders(train_folder or val_folder)
        source: ImageSource = _open_packed(packed, split) if packed else _open_sample(split)
    else:
        layout = find_layout(
            path, labelled=labelled, train_folder=train_folder, val_folder=val_folder
        )
        source = _open_folder(path, layout, split, labelled, max_pixels)
    if labelled and source.labels is None:
        raise ValueError(
            f"{source.name}: {len(source)} images without labels; expected a label for each. "
            "Use a command that needs no labels, or add the file of labels."
        )
    return source


def _find_packed(path: Path) -> Packed | None:
    if not path.is_dir():
        got = "it is a file" if path.exists() else "there is no such folder"
        got += " (unpack an archive)" if path.is_file() else ""
        raise ValueError(
            f"data folder {path}: {got}; expected a folder of images, of IDX files or of CIFAR "
            "batches. Check the path, or give none to run on the embedded sample."
        )
    return find_packed(path)


def _refuse_folders(name: str | None) -> None:
    if name:
        raise ValueError(
            f"--train-folder, --val-folder: got {name} with data that has no folders of images; "
            "expected them with such data alone. Leave the option out."
        )


def _open_sample(split: Split) -> ArraySource:
    with np.load(SAMPLE, allow_pickle=False) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    name = f"Fashion-MNIST sample, {split}"
    return ArraySource(images, labels, name=name, classes=FASHION_CLASSES, origin=str(SAMPLE))


def _open_packed(packed: Packed, split: Split) -> ArraySource:
    images, labels, classes, origin = load_packed(packed, split)
    return ArraySource(images, labels, name=origin, classes=classes, origin=origin)


def _open_folder(
    path: Path, layout: Layout, split: Split, labelled: bool, max_pixels: int | None
) -> FolderSource:
    root = _root(path, layout, split)
    found = scan(root)
    if not found.paths:
        skipped = counted(found.left_out)
        raise ValueError(
            f"{root}: a folder without images; expected files such as .jpg, .png or .webp in it or "
            f"in folders under it. Check the path{f' (skipped: {skipped})' if skipped else ''}."
        )
    if not layout.chosen:
        check_no_parts_below(root, found.trees)
    classes, labels = None, None
    try:
        classes, labels = label_paths(root, found, layout.train if split == "val" else None)
    except ValueError:
        if labelled:
            raise
    source = FolderSource(root, found.paths, labels, classes, max_pixels)
    source.skipped, source.unused = _left_out(found), layout.unused
    return source


def _root(path: Path, layout: Layout, split: Split) -> Path:
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


def _left_out(found: Scan) -> str:
    """What was left out of a folder, in words."""
    barren = ", ".join(f"{name}/" for name in list(found.barren)[:5])
    parts = [counted(found.left_out), f"no images in {barren}" if barren else ""]
    return "; ".join(part for part in parts if part)
