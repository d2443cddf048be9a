"""Opening data of any kind, or the embedded sample."""

from pathlib import Path

import numpy as np

from mgd_ssl.data.reader import Split, Wanted
from mgd_ssl.data.readers import find_opener
from mgd_ssl.data.sources import ArraySource, ImageSource

SAMPLE = Path(__file__).parent / "sample" / "fashion_mnist.npz"
FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def open_source(
    path: str | Path | None,
    split: Split,
    labeled: bool = False,
    *,
    train_folder: str | None = None,
    val_folder: str | None = None,
    max_pixels: int | None = None,
) -> ImageSource:
    """Open the images at ``path``, whose kind is recognized by looking.

    None is the embedded sample. The modules of :mod:`mgd_ssl.data.readers` are the kinds of data.
    In folders of images, ``train/`` and ``val/`` are told by their names; see
    :func:`mgd_ssl.data.layout.find_layout`.

    Args:
        path: file or folder, or None.
        split: "train" or "val".
        labeled: refuse a source without labels.
        train_folder: the folder under ``path`` of the training images, "." for all of it; by
            default it is told by its name.
        val_folder: the folder under ``path`` of the validation images.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.

    Raises:
        NoValidationError: "val" is wanted, and there is none.
        ValueError: no such data, no images, names that leave open which are meant, or no labels
            where they are wanted.
    """
    if split not in ("train", "val"):
        raise ValueError(f'split {split!r}; expected "train" or "val".')
    wanted = Wanted(split, labeled, train_folder, val_folder, max_pixels)
    source = _open_sample(wanted) if path is None else find_opener(Path(path))(wanted)
    if labeled and source.labels is None:
        raise ValueError(
            f"{source.name}: {len(source)} images without labels; expected a label for each. "
            "Use a command that needs no labels, or add the file of labels."
        )
    return source


def _open_sample(wanted: Wanted) -> ArraySource:
    wanted.refuse_folders("the embedded sample")
    split = wanted.split
    with np.load(SAMPLE, allow_pickle=False) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    name = f"Fashion-MNIST sample, {split}"
    return ArraySource(images, labels, name=name, classes=FASHION_CLASSES, origin=str(SAMPLE))
