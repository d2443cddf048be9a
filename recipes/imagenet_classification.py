"""ImageNet classification as published: MobileNet v1 from ResNet-50, and other pairs.

    python recipes/imagenet_classification.py IMAGENET                # MobileNet v1 from ResNet-50
    python recipes/imagenet_classification.py IMAGENET --student resnet50    # from ResNet-152
    python recipes/imagenet_classification.py IMAGENET --alone               # without a teacher
    torchrun --nproc-per-node 4 recipes/imagenet_classification.py IMAGENET -- --precision bf16

IMAGENET holds train/ and val/ of class folders. 120 epochs after 10 of warm-up, 256 images a step,
a rate of 0.1 that drops tenfold at epochs 30, 60 and 80; the matching is solved before every
epoch. The teacher is torchvision's, by name. What stands after ``--`` is passed on to
``mgd-ssl classify``. A run that was stopped goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from published import Errors, table, train
from tables import split_extra

# Student -> teacher.
PAIRS = {
    "mobilenet_v1": "resnet50",
    "mobilenet_v2": "resnet50",
    "shufflenet_v2_x1_0": "resnet50",
    "resnet50": "resnet152",
    "resnet18": "resnet50",
}
ALONE: dict[str, Errors] = {"mobilenet_v1": (31.13, 11.24)}
DISTILLED: dict[str, Errors] = {"mobilenet_v1": (28.53, 9.67)}  # absolute max pooling

SCHEDULE = ["--epochs", "120", "--warmup-epochs", "10", "--no-cos", "--schedule", "30", "60", "80"]
OPTIMIZER = ["--optimizer", "sgd", "--lr", "0.1", "--momentum", "0.9", "--nesterov"]
OPTIMIZER += ["-b", "256", "--wd", "1e-4"]
MATCHING = ["--mgd-reducer", "amp", "--mgd-update-freq", "1", "--mgd-loss-factor", "1e4"]


def arguments(data: Path, student: str, *, alone: bool = False) -> list[str]:
    """The command line of one experiment."""
    teacher = [] if alone else ["--teacher", PAIRS[student], *MATCHING]
    return [str(data), "-a", student, "--size", "224", *SCHEDULE, *OPTIMIZER, *teacher]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, then print the measured figure beside the published one."""
    own, extra = split_extra(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train/ and val/")
    parser.add_argument("--student", choices=PAIRS, default="mobilenet_v1", help="(%(default)s)")
    parser.add_argument("--alone", action="store_true", help="train the student without a teacher")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet"), help="(%(default)s)")
    options = parser.parse_args(own)
    name = options.student + (", alone" if options.alone else f" from {PAIRS[options.student]}")
    given = arguments(options.data, options.student, alone=options.alone)
    out = options.out / name.replace(",", "").replace(" ", "-")
    if measured := train([*given, *extra], out):
        published = (ALONE if options.alone else DISTILLED).get(options.student)
        print(table({name: measured}, {name: published}))


if __name__ == "__main__":
    main()
