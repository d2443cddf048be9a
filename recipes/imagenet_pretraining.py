"""A student for ImageNet without labels: distill from a teacher cache, probe.

    python recipes/imagenet_pretraining.py IMAGENET moco_v2_800ep_pretrain.pth.tar
    python recipes/imagenet_pretraining.py IMAGENET dinov2_vits14_pretrain.pth --devices 8
    python recipes/imagenet_pretraining.py IMAGENET TEACHER --dry-run
    python recipes/imagenet_pretraining.py IMAGENET TEACHER -- --precision 32    # on to pretrain.py

IMAGENET holds train/ and val/ of class folders; labels serve the evaluators alone. --dry-run prints
the commands, then the plan and the cost of training with the teacher, measured over a few steps;
it writes nothing. The recipe goes on where it was stopped. docs/guides/imagenet.md has hours, disk
and what to expect.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tables import split_extra

ROOT = Path(__file__).parents[1]
FAST = ["--precision", "bf16", "--channels-last"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the commands one after the other, or print them."""
    own, extra = split_extra(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train/ and val/")
    parser.add_argument("teacher", help="a file, a run, or a name")
    parser.add_argument("--teacher-arch", help="where the file does not show it")
    parser.add_argument("-a", "--arch", default="resnet18", help="of the student (%(default)s)")
    parser.add_argument("--epochs", default="100", help="(%(default)s)")
    parser.add_argument("--views", default="20", help="cached, of each image (%(default)s)")
    parser.add_argument("--size", default="224", help="side of the images (%(default)s)")
    parser.add_argument("--devices", default="1", help="GPUs of this machine (%(default)s)")
    parser.add_argument("-j", "--workers", default="8", help="per device (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet"), help="(%(default)s)")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(own)
    steps = commands(options, extra)
    for words in steps:
        print("python " + shlex.join(words))
    for words in [dry_run(options, extra)] if options.dry_run else steps:
        done = subprocess.run([sys.executable, *words], cwd=ROOT)
        if done.returncode:
            raise SystemExit(done.returncode)


def commands(options: argparse.Namespace, extra: Sequence[str] = ()) -> list[list[str]]:
    """The command lines: training with its cache, kNN, linear probe."""
    out = options.out.absolute() / Path(options.teacher).name.partition(".")[0]
    cache, student = out / "cache", out / options.arch
    given = [*taught(options), *FAST, "--devices", options.devices]
    measured = [str(student), str(options.data.absolute()), "-j", options.workers]
    return [
        [
            *("pretrain.py", *given, "-a", options.arch, "--epochs", options.epochs),
            *("--teacher-cache", str(cache), "--cache-views", options.views),
            *("--out", str(student), "--resume", *extra),
        ],
        ["knn_eval.py", *measured, "--out", str(out / f"{options.arch}-knn.json")],
        ["linear_eval.py", *measured, "--out", str(out / f"{options.arch}-linear.json")],
    ]


def dry_run(options: argparse.Namespace, extra: Sequence[str]) -> list[str]:
    """The command line that measures training with the teacher, and writes nothing."""
    student = ["-a", options.arch, "--epochs", options.epochs, "--out", str(options.out / "dry")]
    return ["pretrain.py", *taught(options), *FAST, *student, "--dry-run", *extra]


def taught(options: argparse.Namespace) -> list[str]:
    """Data, teacher, size and workers."""
    file = Path(options.teacher)
    teacher = str(file.absolute()) if file.exists() else options.teacher
    data = str(options.data.absolute())
    named = ["--teacher-arch", options.teacher_arch] if options.teacher_arch else []
    return [data, "--teacher", teacher, *named, "--size", options.size, "-j", options.workers]


if __name__ == "__main__":
    main()
