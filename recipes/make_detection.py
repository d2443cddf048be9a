"""Write a small detection set in COCO's layout: clothes at random places on textured canvases.

    python recipes/make_detection.py OUT                                      # 500 and 200 scenes
    python recipes/make_detection.py OUT --items FOLDER_OF_IDX_FILES --train 2000
    python recipes/make_detection.py tests/detection/detection_sample --train 14 --val 6

The last line wrote the test data of this repository. Items come from a folder of Fashion-MNIST's or
MNIST's IDX files, or from the embedded sample: those of its train images are in the train scenes
only. The boxes are the same at every run of the same seed.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from mgd_ssl.data import ArraySource, open_source
from mgd_ssl.data.reader import Split
from mgd_ssl.detection.scenes import generate_scenes, write_coco


def main() -> None:
    """Make the scenes of both splits and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--items", type=Path, help="folder of IDX files; default: embedded sample")
    parser.add_argument("--train", type=int, default=500, help="training scenes (%(default)s)")
    parser.add_argument("--val", type=int, default=200, help="validation scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of train; val has the next one")
    options = parser.parse_args()
    counts: dict[Split, int] = {"train": options.train, "val": options.val}
    try:
        print("\n".join(make_scenes(options.items, options.out, counts, options.seed)))
    except ValueError as error:
        parser.error(str(error))


def make_scenes(
    items: Path | None, out: Path, counts: Mapping[Split, int], seed: int = 0
) -> list[str]:
    """Write scenes of each split, whose items are from that split only.

    Args:
        items: folder of IDX files; None is the embedded sample.
        out: folder to write.
        counts: scenes of each split.
        seed: of the first split; each other has the next one.

    Returns:
        The annotation file of each split, and what it holds.

    Raises:
        ValueError: there are no IDX files in the folder, or they cannot be used as items.
    """
    written = []
    for number, (split, count) in enumerate(counts.items()):
        source = open_source(items, split, labeled=True)
        if not isinstance(source, ArraySource):
            raise ValueError(f"{items}: no IDX files; expected those of MNIST or Fashion-MNIST")
        scenes = generate_scenes(source, count, seed + number)
        written.append(f"{write_coco(scenes, out, split)}: {scenes.name}")
    return written


if __name__ == "__main__":
    main()
