"""Opening images with boxes: folders in COCO's layout, images alone, or generated scenes."""

from pathlib import Path

from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.folders import folders_of, look_up
from mgd_ssl.data.layout import split_kinds
from mgd_ssl.data.opening import open_source
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.detection.annotations import AnnotationTable
from mgd_ssl.detection.coco_json import read_coco
from mgd_ssl.detection.scenes import embedded_scenes
from mgd_ssl.detection.sources import DetectionSource


def open_detection(
    path: Path | None,
    split: Split,
    *,
    annotated: bool = True,
    train_folder: str | None = None,
    val_folder: str | None = None,
    max_pixels: int | None = None,
) -> DetectionSource:
    """Open images and their boxes.

    A folder has COCO's layout, with or without the year: ``train2017/``, ``val2017/``,
    ``annotations/instances_train2017.json`` and ``annotations/instances_val2017.json``. Without
    annotations it may be anything that :func:`open_source` reads. If ``path`` is None, scenes are
    generated in memory from the embedded sample, 300 for training and 100 for evaluation.

    Args:
        path: folder, or None.
        split: "train" or "val".
        annotated: whether to read the annotations; if not, the targets are empty.
        train_folder: name of the folder of training images under ``path``, whose annotations are
            ``annotations/instances_NAME.json``; found by its name if not given.
        val_folder: name of the folder of validation images.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.

    Raises:
        ValueError: the folder, images or annotations do not exist, or the annotations cannot be
            used.
    """
    if path is None:
        if train_folder or val_folder:
            raise ValueError(
                "--train-folder, --val-folder: got one with generated scenes, expected DATA with it"
            )
        scenes = embedded_scenes(split)
        return scenes if annotated else _unannotated(scenes)
    if not annotated:
        images = open_source(
            path, split, train_folder=train_folder, val_folder=val_folder, max_pixels=max_pixels
        )
        return _unannotated(images)
    if split == "train":
        return _open_coco(*_find_coco(path, "train", train_folder), max_pixels)
    if val_folder and val_folder == train_folder:
        raise ValueError(
            f"--val-folder: got {val_folder}, which is the training folder too; expected images of "
            "its own"
        )
    return _open_coco(*_find_coco(path, "val", val_folder, train_folder), max_pixels)


def _unannotated(images: ImageSource) -> DetectionSource:
    return DetectionSource(images, AnnotationTable.empty(len(images)))


def _open_coco(root: Path, file: Path, max_pixels: int | None) -> DetectionSource:
    """Images of a folder, with the boxes of an annotation file."""
    table, names = read_coco(file)
    images = FolderSource(root, names, max_pixels=max_pixels)
    images.skipped = _check_images(root, file, names)
    source = DetectionSource(images, table)
    source.check_sizes()
    return source


def _find_coco(
    path: Path, split: Split, given: str | None, other: str | None = None
) -> tuple[Path, Path]:
    """The folder of images and the annotation file of ``split``; it is not ``other``."""
    names = [given] if given else [name for name in _called(path, split) if name != other]
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
        "generated scenes, or distil on the images without annotations: --unlabeled --teacher "
        "DETECTOR."
    )


def _called(path: Path, split: Split) -> list[str]:
    """Names that a split's folder may have: COCO's, and those of existing folders."""
    kinds = split_kinds(folders_of(path)) if path.is_dir() else {}
    there = [name for name, kind in kinds.items() if kind == split]
    return list(dict.fromkeys([f"{split}2017", split, *there]))


def _check_images(root: Path, file: Path, names: list[str]) -> str:
    """Check that every image exists.

    Returns:
        In words, the images in these folders that the annotations do not name.
    """
    missing, others = look_up(root, names)
    if missing:
        raise ValueError(
            f"{file}: {len(missing)} of {len(names)} images are not in {root}, among "
            f"them {', '.join(missing[:3])}; expected every image that is named. Add them, or "
            "remove them from the annotations."
        )
    return f"{others:,} images that {file.name} does not name" if others else ""
