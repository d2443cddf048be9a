"""Images a second and core from JPEG files to random crops of 224 pixels, one and two of each.

In turn, in one run, one thread: the crops of this project; torchvision's RandomResizedCrop; and the
center square of 256 pixels that kornia's crop is drawn from in the training process, whole and
without kornia's part. The area of the crops is 0.2 to 1 of the image's.

    python benchmarks/decoding.py [--images 32] [--repeats 9]
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import kornia.augmentation as K
import numpy as np
import torch
from PIL import Image
from timing import describe, in_turn, spread
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data import RandomCrops, make_loader, open_source

SIZE, AREA = 224, (0.2, 1.0)
SHAPES = ((500, 375), (1600, 1200))
Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    describe(1, options.repeats)
    for width, height in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_images(Path(folder), options.images, width, height)
            for views in (1, 2):
                print(f"{width} x {height}, {views} view(s)")
                report(contenders(Path(folder), paths, views), options.images, options.repeats)


def write_images(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """JPEG files of smooth colors and some noise, about 1.5 bits a pixel."""
    paths = [folder / f"{number:03}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 5, (height, width, 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=85)
    return paths


def contenders(folder: Path, paths: list[Path], views: int) -> dict[str, Step]:
    """What each way does with all files."""
    source, count = open_source(folder, "train"), len(paths)
    loader = make_loader(source, SIZE, count, train=True, crops=RandomCrops(SIZE, views, AREA))
    theirs = v2.RandomResizedCrop(SIZE, AREA)
    kornia = K.RandomResizedCrop((SIZE, SIZE), scale=AREA, cropping_mode="resample")

    def torchvision() -> Tensor:
        images = [read(path) for path in paths]
        return torch.stack([TF.pil_to_tensor(theirs(x)) for x in images for _ in range(views)])

    def squares() -> Tensor:
        return torch.stack([square(path) for path in paths])

    def square_and_kornia() -> list[Tensor]:
        images = squares().float() / 255
        return [kornia(images) for _ in range(views)]

    return {
        "this project": lambda: next(iter(loader)),
        "torchvision": torchvision,
        "square, kornia": square_and_kornia,
        "square alone": squares,
    }


def read(path: Path) -> Image.Image:
    """Decode as torchvision's ImageFolder does."""
    with path.open("rb") as file:
        return Image.open(file).convert("RGB")


def square(path: Path) -> Tensor:
    """(3, 256, 256) uint8: the shorter side resized, the center cut out."""
    resized = TF.resize(TF.pil_to_tensor(read(path)), [256], antialias=True)
    cut: Tensor = TF.center_crop(resized, [256, 256])
    return cut


def report(ways: dict[str, Step], images: int, repeats: int) -> None:
    """Print images a second and core, and how many times the others' this project's are."""
    rows = in_turn(ways, repeats)
    for name in ways:
        speed = images / statistics.median(row[name] for row in rows)
        ratios = [row[name] / row["this project"] for row in rows]
        print(f"  {name:<16} {speed:7.0f} a second  {spread(ratios, width=5)}")


if __name__ == "__main__":
    main()
