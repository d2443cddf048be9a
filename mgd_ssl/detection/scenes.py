"""Generated scenes with boxes: a detection task of any size from small gray images."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgd_ssl.data.opening import open_source
from mgd_ssl.data.reader import Split
from mgd_ssl.data.sources import ArraySource, ImageSource
from mgd_ssl.detection.annotations import AnnotationTable, Objects, starts_of
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.files import write_text

SCENE_SIDE = (112, 160)  # pixels; ranges include both ends
ITEM_SIDE = (18, 64)
ITEMS = (1, 6)
FAINTEST = 24  # of 255: darker pixels of an item are background
LEAST_VISIBLE = 0.3  # share of an item's pixels that must stay uncovered
EMBEDDED_SCENES = {"train": 300, "val": 100}
EMBEDDED_SEEDS = {"train": 0, "val": 1}


def generate_scene(
    images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """Draw one scene: 1 to 6 tinted items on a textured canvas with sides of 112 to 160 pixels.

    An item's brightness is its opacity. Items may overlap; one that later items cover by more than
    70 % is not drawn. The scene depends on ``seed`` and ``index`` alone, not on other scenes.

    Args:
        images: (N, H, W) gray uint8, bright items on black.
        labels: (N,) class of every image.
        seed: of the set.
        index: of the scene in the set.

    Returns:
        Image (H, W, 3) uint8; boxes (M, 4) x1, y1, x2, y2 in pixels, tight around the uncovered
        pixels of each item; labels (M,) int64.
    """
    rng = np.random.default_rng([seed, index])
    height, width = rng.integers(*SCENE_SIDE, size=2, endpoint=True).tolist()
    canvas = _canvas(rng, height, width)
    chosen = rng.integers(len(images), size=rng.integers(*ITEMS, endpoint=True))
    layers = [_place(rng, images[number], height, width) for number in chosen]
    tints = rng.uniform(0.35, 1, (len(chosen), 3)) * 255
    kept, boxes = _visible(layers)
    for number in kept:
        opacity = layers[number][..., None] / 255
        canvas += opacity * (tints[number] - canvas)
    scene = np.rint(canvas).clip(0, 255).astype(np.uint8)
    return scene, np.array(boxes).reshape(-1, 4), labels[chosen[kept]].astype(np.int64)


def _canvas(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """A gradient between two dark colors with smooth noise of two scales, (H, W, 3)."""
    start, end = rng.uniform(10, 120, (2, 3))
    across, down = rng.uniform(-1, 1, 2)
    ramp = across * np.linspace(-1, 1, width) + down * np.linspace(-1, 1, height)[:, None]
    canvas: NDArray[np.float64] = start + (end - start) * (0.5 + 0.25 * ramp[..., None])
    for cells, strength in ((4, 25), (20, 15)):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        canvas += strength * (np.asarray(fine) / 127.5 - 1)
    return canvas


def _place(
    rng: np.random.Generator, item: NDArray[np.uint8], height: int, width: int
) -> NDArray[np.uint8]:
    """The item alone on black (H, W), at a random place and size, and flipped half the time."""
    side = int(rng.integers(*ITEM_SIDE, endpoint=True))
    item = item[:, ::-1] if rng.random() < 0.5 else item
    resized = np.asarray(Image.fromarray(item).resize((side, side), Image.Resampling.BILINEAR))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    layer = np.zeros((height, width), np.uint8)
    layer[top : top + side, left : left + side] = np.where(resized < FAINTEST, 0, resized)
    return layer


def _visible(layers: list[NDArray[np.uint8]]) -> tuple[list[int], list[list[float]]]:
    """Items that are visible enough, bottom first, and the boxes of their visible pixels."""
    covered = np.zeros(layers[0].shape, np.bool_)
    found = []
    for number in reversed(range(len(layers))):
        item = layers[number] > 0
        seen = item & ~covered
        if seen.sum() >= LEAST_VISIBLE * item.sum() > 0:
            rows, columns = np.nonzero(seen)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found.append((number, [float(edge) for edge in box]))
            covered |= item
    return [number for number, _ in reversed(found)], [box for _, box in reversed(found)]


class SceneSource(ImageSource):
    """Scenes (H, W, 3) uint8, all held in memory."""

    in_memory = True

    def __init__(self, name: str, scenes: list[NDArray[np.uint8]]) -> None:
        self.name, self._scenes = name, scenes

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def read(self, index: int) -> Image.Image:
        """Scene ``index``."""
        return Image.fromarray(self._scenes[index])

    def describe(self, index: int) -> str:
        """``name[index]``."""
        return f"{self.name}[{index}]"


def generate_scenes(items: ArraySource, count: int, seed: int = 0) -> DetectionSource:
    """Generate scenes and the boxes of their items. The area of an object is that of its box.

    Args:
        items: gray images of one size with their labels and classes.
        count: number of scenes.
        seed: of the set; see `generate_scene`.

    Raises:
        ValueError: the items are in color or have no labels, or ``count`` is not positive.
    """
    item_labels, classes = _check_items(items, count)
    scenes, boxes, labels = zip(
        *(generate_scene(items.images, item_labels, seed, index) for index in range(count)),
        strict=True,
    )
    corners = np.concatenate(boxes)
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    table = AnnotationTable(
        image_ids=list(range(1, count + 1)),
        category_ids=list(range(1, len(classes) + 1)),
        classes=classes,
        rows=Objects(corners, np.concatenate(labels), areas, np.zeros(len(areas), np.bool_)),
        starts=starts_of(map(len, boxes)),
        sizes=np.array([scene.shape[:2] for scene in scenes], np.int64),
    )
    name = f"{count} scenes of {items.name}, seed {seed}"
    return DetectionSource(SceneSource(name, list(scenes)), table)


def _check_items(items: ArraySource, count: int) -> tuple[NDArray[np.int64], list[str]]:
    if items.images.ndim != 3 or items.labels is None or count < 1:
        raise ValueError(
            f"{count} scenes from {items.name}, images {items.images.shape}, labels "
            f"{'none' if items.labels is None else len(items.labels)}; expected at least 1 scene "
            "from gray images (N, H, W) with labels. Use MNIST or Fashion-MNIST, with its labels."
        )
    names = [str(label) for label in range(int(items.labels.max()) + 1)]
    return items.labels, items.classes or names


def embedded_scenes(split: Split) -> DetectionSource:
    """The data set of a run without DATA: 300 scenes of the sample's train images, 100 of val's."""
    items = open_source(None, split)
    assert isinstance(items, ArraySource)
    return generate_scenes(items, EMBEDDED_SCENES[split], EMBEDDED_SEEDS[split])


def write_coco(source: DetectionSource, folder: Path, split: Split) -> Path:
    """Write JPEG images and boxes in COCO's layout: ``split/`` and ``annotations/`` in ``folder``.

    Returns:
        The annotation file, ``annotations/instances_SPLIT.json``.

    Raises:
        ValueError: the folder already holds the split.
        WriteError: the annotation file cannot be written.
    """
    file, images = folder / "annotations" / f"instances_{split}.json", folder / split
    if file.exists() or images.exists():
        raise ValueError(
            f"{folder}: {split} is there already; expected a folder without it. Name another "
            "folder, or remove it."
        )
    images.mkdir(parents=True)
    truth = source.ground_truth()
    for index, entry in enumerate(truth["images"]):
        entry["file_name"] = f"{entry['id']:06d}.jpg"
        source.read(index).save(images / entry["file_name"], quality=92)
    write_text(file, json.dumps(truth))
    return file
