"""CUB-200-2011 as published: a pretrained student, and a ResNet-50 fine-tuned on CUB as teacher.

    python recipes/cub200.py CUB_200_2011                                    # MobileNet v2
    python recipes/cub200.py CUB_200_2011 --student shufflenet_v2_x1_0 --kd
    python recipes/cub200.py CUB_200_2011 --alone                            # without a teacher
    python recipes/cub200.py CUB_200_2011 --teacher TEACHER -- --workers 16

CUB_200_2011 is the extracted archive: images.txt, image_class_labels.txt, train_test_split.txt and
images/. Beside the runs, train/ and val/ of class folders are made of links into it. 120 epochs, 64
images a step, a rate of 0.01; the matching is solved before every second epoch. When the rate drops
is not among the published figures: here tenfold at 30, 60 and 80, as on ImageNet. Teacher and
student start from torchvision's ImageNet weights, by name. The teacher is fine-tuned by the same
command unless one is given. What stands after ``--`` is passed on to ``mgd-ssl classify``, for
both. A run that was stopped goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from published import Errors, table, train
from tables import split_extra

STUDENTS = ("mobilenet_v2", "shufflenet_v2_x1_0", "resnet18")
TEACHER = "resnet50"
PUBLISHED: dict[str, Errors] = {  # with absolute max pooling
    "resnet50, alone": (20.02, 6.06),
    "mobilenet_v2, alone": (24.61, 7.56),
    "mobilenet_v2": (20.47, 5.23),
    "shufflenet_v2_x1_0, alone": (31.39, 10.9),
    "shufflenet_v2_x1_0": (25.95, 7.46),
    "shufflenet_v2_x1_0 + kd": (25.18, 7.87),
}

SCHEDULE = ["--epochs", "120", "--no-cos", "--schedule", "30", "60", "80"]
OPTIMIZER = ["--optimizer", "sgd", "--lr", "0.01", "--momentum", "0.9", "--nesterov"]
OPTIMIZER += ["-b", "64", "--wd", "1e-4"]
MATCHING = ["--mgd-reducer", "amp", "--mgd-update-freq", "2", "--mgd-loss-factor", "1e4"]


def arguments(
    data: Path, network: str, teacher: Path | None = None, *, kd: bool = False
) -> list[str]:
    """The command line of one experiment; without a teacher, of plain fine-tuning."""
    base = [str(data), "--student-weights", network, "--size", "224", *SCHEDULE, *OPTIMIZER]
    if teacher is None:
        return base
    return [*base, "--teacher", str(teacher), *MATCHING, *(["--kd"] if kd else [])]


def make_folders(cub: Path, out: Path) -> Path:
    """Make ``out``/train and ``out``/val of class folders of symbolic links to CUB's images.

    Args:
        cub: the extracted archive.
        out: links that are there already stay.

    Returns:
        ``out``.

    Raises:
        ValueError: a file or an image is missing, the lists do not fit together, or ``out`` holds
            links to other images.
    """
    paths = _read_column(cub / "images.txt")
    labels = _read_column(cub / "image_class_labels.txt")
    train_images = _read_column(cub / "train_test_split.txt")
    if not paths.keys() == labels.keys() == train_images.keys():
        raise ValueError(
            f"{cub}: its lists are of {len(paths)}, {len(labels)} and {len(train_images)} images, "
            "expected the same ids in images.txt, image_class_labels.txt and train_test_split.txt; "
            "extract the archive again"
        )
    missing = [path for path in paths.values() if not (cub / "images" / path).is_file()]
    if missing:
        raise ValueError(
            f"{cub / 'images'}: {len(missing)} of {len(paths)} images are missing, as "
            f"{missing[0]}; extract the archive again"
        )
    for number, path in paths.items():
        split = "train" if train_images[number] == "1" else "val"
        folder = f"{int(labels[number]):03d}.{Path(path).parent.name.partition('.')[2]}"
        _link((cub / "images" / path).resolve(), out / split / folder / Path(path).name)
    return out


def _read_column(path: Path) -> dict[str, str]:
    """Image id -> the second word of its line."""
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; expected the extracted folder CUB_200_2011 of the archive "
            "CUB_200_2011.tgz"
        )
    lines = [
        line.split(maxsplit=1)
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    wrong = next((line for line in lines if len(line) != 2), None)
    if wrong:
        raise ValueError(f"{path}: got the line {' '.join(wrong)!r}, expected an id and a value")
    return {number: value.strip() for number, value in lines}


def _link(image: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(image)
    except FileExistsError:  # of an earlier run, or of another process of this one
        if link.resolve() != image:
            raise ValueError(
                f"{link}: it is there and leads to {link.resolve()}, expected {image}; remove "
                f"{link.parents[2]} or give another --out"
            ) from None


def main(argv: Sequence[str] | None = None) -> None:
    """Make the folders, fine-tune the teacher where none is given, train, print the figures."""
    own, extra = split_extra(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cub", type=Path, help="the extracted folder CUB_200_2011")
    parser.add_argument("--student", choices=STUDENTS, default=STUDENTS[0], help="(%(default)s)")
    parser.add_argument("--teacher", type=Path, help="checkpoint; default: fine-tune a ResNet-50")
    parser.add_argument("--kd", action="store_true", help="match the logits too")
    parser.add_argument("--alone", action="store_true", help="fine-tune without a teacher")
    parser.add_argument("--out", type=Path, default=Path("runs/cub200"), help="(%(default)s)")
    options = parser.parse_args(own)
    if options.alone and (options.teacher or options.kd):
        parser.error("got --alone with --teacher or --kd, expected one or the other")
    try:
        data = make_folders(options.cub, options.out / "data")
    except ValueError as error:
        parser.error(str(error))
    measured, teacher = {}, options.teacher
    if teacher is None and not options.alone:
        out = options.out / "teacher"
        measured[f"{TEACHER}, alone"] = train([*arguments(data, TEACHER), *extra], out)
        teacher = out / "checkpoints" / "last.pt"
    ending = ", alone" if options.alone else " + kd" if options.kd else ""
    name = options.student + ending
    given = arguments(data, options.student, None if options.alone else teacher, kd=options.kd)
    out = options.out / name.replace(",", "").replace(" ", "-")
    measured[name] = train([*given, *extra], out)
    if measured[name]:
        print(table(measured, PUBLISHED))


if __name__ == "__main__":
    main()
