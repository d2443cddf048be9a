"""Opening images with boxes: folders in COCO's layout, images alone, or generated scenes."""

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mgd_ssl.data.coco_json import CocoTable, read_coco
from mgd_ssl.data.decoding import Picture, open_picture
from mgd_ssl.data.detection import DetectionSource, Objects
from mgd_ssl.data.folders import PathList
from mgd_ssl.data.generated import open_generated
from mgd_ssl.data.sources import ImageSource, Split, open_source


class CocoSource(DetectionSource):
    """Images of a folder, with the boxes of an annotation file.

    Args:
        root: folder that the annotations' file names are relative to.
        file: annotations in COCO's "instances" format.

    Raises:
        ValueError: a file that cannot be used (:func:`read_coco`), or one that names images that
            are not there.
    """

    def __init__(self, root: Path, file: Path) -> None:
        table = read_coco(file)
        _check_images(root, file, table)
        self.name, self.file = str(root), file
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
            ValueError: its size is not the one that its boxes were drawn for.
            Exception: whatever the decoder raises on a damaged file.
        """
        picture = open_picture(self.describe(index), exif=exif)
        height, width = self.size(index)
        if (width, height) not in (picture.size, picture.stored):
            got = "x".join(map(str, picture.size))
            raise ValueError(f"{got} pixels where {self.file.name} says {width}x{height}")
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

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to RGB; raises where it cannot be decoded."""
        return self.images.read(index)

    def open(self, index: int, *, exif: bool = True) -> Picture:
        """Image ``index``; raises where it cannot be opened."""
        return self.images.open(index, exif=exif)

    def describe(self, index: int) -> str:
        """Where image ``index`` is."""
        return self.images.describe(index)

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


def open_detection(path: Path | None, split: Split, *, annotated: bool = True) -> DetectionSource:
    """Open the images and boxes at ``path``.

    None is scenes generated in memory from the embedded sample, 300 to train on and 100 to
    evaluate. A folder holds COCO's layout, with or without the year: ``train2017/``, ``val2017/``,
    ``annotations/instances_train2017.json`` and ``annotations/instances_val2017.json``. Without
    annotations it may be any folder that :func:`open_source` reads.

    Args:
        path: folder, or None.
        split: "train" or "val".
        annotated: read the annotations; else the targets are empty.

    Raises:
        ValueError: no such folder, images or annotations, or annotations that cannot be used.
    """
    if path is None:
        scenes = open_generated(split)
        return scenes if annotated else UnannotatedSource(scenes)
    if not annotated:
        year = path / f"{split}2017"
        return UnannotatedSource(
            open_source(*((year, "train") if year.is_dir() else (path, split)))
        )
    return CocoSource(*_find_coco(path, split))


def _find_coco(path: Path, split: Split) -> tuple[Path, Path]:
    """The folder of images and the annotation file of ``split``."""
    names = (f"{split}2017", split)
    pairs = [(path / name, path / "annotations" / f"instances_{name}.json") for name in names]
    for folder, file in pairs:
        if folder.is_dir() and file.is_file():
            return folder, file
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


def _check_images(root: Path, file: Path, table: CocoTable) -> None:
    """Look every file name up in the listing of its folder: one listing, not a query a file."""
    folders = defaultdict(list)
    for name in table.file_names:
        folder, base = os.path.split(name)
        folders[folder].append(base)
    missing = []
    for folder, bases in folders.items():
        there = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
        missing += [os.path.join(folder, base) for base in bases if base not in there]
    if missing:
        raise ValueError(
            f"{file}: {len(missing)} of {len(table.file_names)} images are not in {root}, among "
            f"them {', '.join(missing[:3])}; expected every image that is named. Add them, or "
            "remove them from the annotations."
        )
