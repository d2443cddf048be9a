"""Write a small detection set in COCO's layout: clothes at random places on textured canvases.

    python recipes/make_detection.py OUT                                      # 500 and 200 scenes
    python recipes/make_detection.py OUT --items FOLDER_OF_IDX_FILES --train 2000
    python recipes/make_detection.py tests/detection/detection_sample --train 14 --val 6

The last line wrote the test data of this repository. Items come from a folder of Fashion-MNIST's or
MNIST's IDX files, or from the embedded sample: those of its train images are in the train scenes
only. The boxes are the same at every run of the same seed.
"""

import argparse
from pathlib import Path

from mgd_ssl.data import ArraySource, open_source
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
    for number, split in enumerate(("train", "val")):
        items = open_source(options.items, split, labelled=True)
        if not isinstance(items, ArraySource):
            parser.error(f"{options.items}: no IDX files; expected those of MNIST or Fashion-MNIST")
        scenes = generate_scenes(items, getattr(options, split), options.seed + number)
        print(f"{write_coco(scenes, options.out, split)}: {scenes.name}")


if __name__ == "__main__":
    main()
