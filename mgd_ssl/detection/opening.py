"""Opening images with boxes: folders in COCO's layout, images alone, or generated scenes."""

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mgd_ssl.data.decoding import Picture, open_picture
from mgd_ssl.data.folders import folders_of
from mgd_ssl.data.formats import extensions
from mgd_ssl.data.layout import split_kinds
from mgd_ssl.data.opening import open_source
from mgd_ssl.data.path_list import PathList
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.detection.coco_json import CocoTable, read_coco
from mgd_ssl.detection.scenes import open_generated
from mgd_ssl.detection.sources import DetectionSource, Objects, check_shape


class CocoSource(DetectionSource):
    """Images of a folder, with the boxes of an annotation file.

    Args:
        root: folder that the annotations' file names are relative to.
        file: annotations in COCO's "instances" format.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.

    Raises:
        ValueError: a file that cannot be used (:func:`read_coco`), or one that names images that
            are not there.
    """

    def __init__(self, root: Path, file: Path, max_pixels: int | None = None) -> None:
        table = read_coco(file)
        self.skipped = _check_images(root, file, table)
        self.name, self.file, self.max_pixels = str(root), file, max_pixels
        self.category_ids, self.classes = table.category_ids, table.classes
        self.image_ids, self.dropped = table.image_ids, table.dropped
        self._paths = PathList(table.file_names)
        self._objects, self._starts, self._sizes = table.objects, table.starts, table.sizes

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to RGB, turned as :meth:`open` says."""
        return self.open(index).load()

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Image ``index``, upright unless its boxes were drawn on the image as it is stored.

        Raises:
            ValueError: its size is not the one that its boxes were drawn for, or it is too long.
            Exception: whatever the decoder raises on a damaged file.
        """
        picture = open_picture(self.describe(index), exif=exif, max_pixels=self.max_pixels)
        height, width = self.size(index)
        if (width, height) not in (picture.size, picture.stored):
            got = "x".join(map(str, picture.size))
            raise ValueError(f"{got} pixels where {self.file.name} says {width}x{height}")
        check_shape(picture)
        return picture if picture.size == (width, height) else replace(picture, turn=None)

    def describe(self, index: int) -> str:
        """The path of image ``index``."""
        return os.path.join(self.name, self._paths[index])

    def objects(self, index: int) -> Objects:
        """The objects of image ``index``, crowds among them."""
        return self._objects.at(slice(*self._starts[index : index + 2].tolist()))

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of image ``index`` in pixels."""
        height, width = self._sizes[index].tolist()
        return height, width


class UnannotatedSource(DetectionSource):
    """Images whose boxes are not known: the targets are empty, and there is no ground truth."""

    def __init__(self, images: ImageSource) -> None:
        self.name, self.in_memory, self.images = images.name, images.in_memory, images
        self.category_ids, self.classes, self.dropped = [], [], {}
        self.image_ids = list(range(len(images)))
        self.skipped, self.unused = images.skipped, images.unused

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to RGB; raises where it cannot be decoded."""
        return self.images.read(index)

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Image ``index``; raises where it cannot be opened or is too long."""
        return check_shape(self.images.open(index, exif=exif))

    def describe(self, index: int) -> str:
        """Where image ``index`` is."""
        return self.images.describe(index)

    def encoded(self, index: int) -> bytes | None:
        """The image file of image ``index``."""
        return self.images.encoded(index)

    def stored(self, index: int) -> tuple[str, int]:
        """What image ``index`` is called, and its size."""
        return self.images.stored(index)

    def objects(self, index: int) -> Objects:
        """None, for every image."""
        empty = np.zeros(0)
        return Objects(np.zeros((0, 4)), empty.astype(np.int64), empty, empty.astype(np.bool_))

    def size(self, index: int) -> tuple[int, int]:
        """Refused: the size belongs to the annotations."""
        raise ValueError(
            f"{self.name}: opened without annotations; expected them where boxes are evaluated. "
            "Name a folder with annotations/instances_val.json."
        )


def open_detection(
    path: Path | None,
    split: Split,
    *,
    annotated: bool = True,
    train_folder: str | None = None,
    val_folder: str | None = None,
    max_pixels: int | None = None,
) -> DetectionSource:
    """Open the images and boxes at ``path``.

    None is scenes generated in memory from the embedded sample, 300 to train on and 100 to
    evaluate. A folder holds COCO's layout, with or without the year: ``train2017/``, ``val2017/``,
    ``annotations/instances_train2017.json`` and ``annotations/instances_val2017.json``. Without
    annotations it may be any folder that :func:`open_source` reads.

    Args:
        path: folder, or None.
        split: "train" or "val".
        annotated: read the annotations; else the targets are empty.
        train_folder: the folder under ``path`` of the training images, NAME in
            ``annotations/instances_NAME.json``; by default it is told by its name.
        val_folder: the folder under ``path`` of the validation images.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.

    Raises:
        ValueError: no such folder, images or annotations, or annotations that cannot be used.
    """
    if path is None:
        if train_folder or val_folder:
            raise ValueError(
                "--train-folder, --val-folder: got one with generated scenes, expected DATA with it"
            )
        scenes = open_generated(split)
        return scenes if annotated else UnannotatedSource(scenes)
    if not annotated:
        images = open_source(
            path, split, train_folder=train_folder, val_folder=val_folder, max_pixels=max_pixels
        )
        return UnannotatedSource(images)
    given = train_folder if split == "train" else val_folder
    return CocoSource(*_find_coco(path, split, given), max_pixels)


def _find_coco(path: Path, split: Split, given: str | None) -> tuple[Path, Path]:
    """The folder of images and the annotation file of ``split``."""
    names = [given] if given else _called(path, split)
    pairs = [(path / name, path / "annotations" / f"instances_{name}.json") for name in names]
    whole = [pair for pair in pairs if pair[0].is_dir() and pair[1].is_file()]
    if len(whole) > 1:
        raise ValueError(
            f"{path}: {', '.join(f'{folder.name}/' for folder, _ in whole)} all have annotations; "
            f"expected one of them. Name it: --{split}-folder {whole[0][0].name}"
        )
    if whole:
        return whole[0]
    folders = [folder.name for folder, _ in pairs if folder.is_dir()]
    files = [file.name for _, file in pairs if file.is_file()]
    got = ", ".join(f"{name}/" for name in folders) or f"no {split} images"
    got += f" and {', '.join(files) or 'no annotation file'}"
    if not path.is_dir():
        got = "it is a file" if path.exists() else "there is no such folder"
    raise ValueError(
        f"{path}: {got}; expected {split}2017/ with annotations/instances_{split}2017.json, or "
        f"{split}/ with annotations/instances_{split}.json. Check the path, give none to run on "
        "generated scenes, or distil on the images without annotations."
    )


def _called(path: Path, split: Split) -> list[str]:
    """Names that a split's folder may have: COCO's, and those of the folders that are there."""
    kinds = split_kinds(folders_of(path)) if path.is_dir() else {}
    there = [name for name, kind in kinds.items() if kind == split]
    return list(dict.fromkeys([f"{split}2017", split, *there]))


def _check_images(root: Path, file: Path, table: CocoTable) -> str:
    """Look every file name up in the listing of its folder: one listing, not a query a file.

    Returns:
        What the folders hold that is not named, in words.
    """
    folders = defaultdict(set)
    for name in table.file_names:
        folder, base = os.path.split(name)
        folders[folder].add(base)
    missing, others = list[str](), 0
    for folder, bases in folders.items():
        there = _files(root / folder)
        missing += [os.path.join(folder, base) for base in sorted(bases - there)]
        others += sum(base.lower().endswith(extensions()) for base in there - bases)
    if missing:
        raise ValueError(
            f"{file}: {len(missing)} of {len(table.file_names)} images are not in {root}, among "
            f"them {', '.join(missing[:3])}; expected every image that is named. Add them, or "
            "remove them from the annotations."
        )
    return f"{others:,} images that {file.name} does not name" if others else ""


def _files(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}
