"""Teachers and students of any kind on color photographs: which form of the matching suits which.

    python recipes/any_teacher.py FOLDER TEACHER [--jobs 4]

FOLDER has train/ and val/ of class folders, TEACHER is a convolutional network. A ViT is distilled
from it first, by the defaults, and then teaches itself. Students are a ResNet-18 of a quarter's
width, a MobileNetV3-small of half and that ViT; "alone" is MoCo v2 without a teacher. What a
teacher says is cached once and serves all of its students. A run whose results exist is not
repeated; --jobs starts so many of them at once.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tables import (
    ACCURACIES,
    Row,
    evaluate,
    last_figures,
    markdown,
    print_and_write,
    run_command,
    run_rows,
)

from mgd_ssl import stages
from mgd_ssl.commands import cache, pretrain
from mgd_ssl.training import distillation

VIT = "vit_tiny_patch16_224"
RESNET = ("-a", "resnet18", "--width", "0.25")
MOBILE = ("-a", "mobilenetv3_small_050")
TOKENS = ("-a", VIT)
ALONE = ("--method", "moco")
SIMREG = ("--method", "simreg", "--regression-head", "linear")
OTHERS = ("simreg", "seed", "compress", "disco", "mgd")
# Row -> (teacher or none, options, how the plan is changed).
ROWS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "conv to ViT, linear regression": ("conv", (*TOKENS, *SIMREG), ""),
    "conv to ViT, mgd-plus": ("conv", TOKENS, ""),
    "conv to ResNet, linear regression": ("conv", (*RESNET, *SIMREG), ""),
    "conv to ResNet, two-sided, standardized": ("conv", RESNET, "two-sided"),
    "conv to ResNet, mgd-plus": ("conv", RESNET, ""),
    "conv to MobileNetV3, linear regression": ("conv", (*MOBILE, *SIMREG), ""),
    "conv to MobileNetV3, mgd-plus": ("conv", MOBILE, ""),
    "ViT to ResNet, linear regression": ("vit", (*RESNET, *SIMREG), ""),
    "ViT to ResNet, all four stages": ("vit", RESNET, "all"),
    "ViT to ResNet, last stage alone": ("vit", (*RESNET, "--ignore", "0", "1", "2"), "all"),
    "ViT to ResNet, raw tokens, one-sided": ("vit", RESNET, "one-sided"),
    "ViT to ResNet, mgd-plus": ("vit", RESNET, ""),
    "ViT to MobileNetV3, linear regression": ("vit", (*MOBILE, *SIMREG), ""),
    "ViT to MobileNetV3, mgd-plus": ("vit", MOBILE, ""),
    "ViT alone": ("", (*TOKENS, *ALONE), ""),
    "ResNet alone": ("", (*RESNET, *ALONE), ""),
    "MobileNetV3 alone": ("", (*MOBILE, *ALONE), ""),
} | {
    f"conv to {name}, {method}": ("conv", (*student, "--method", method), "")
    for name, student in (("ResNet", RESNET), ("MobileNetV3", MOBILE))
    for method in OTHERS
}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--teacher-arch", default="", help="where the file does not show it")
    parser.add_argument("--out", type=Path, default=Path("runs/any_teacher"))
    parser.add_argument("--size", default="64", help="side of a student's images, in pixels")
    parser.add_argument("--epochs", default="6")
    parser.add_argument("--views", help="of each image in a cache [so many as epochs]")
    parser.add_argument("-b", "--batch", default="0", help="images in a step; 0 is found")
    parser.add_argument("--optimizer", default="muon", help="of pretrain.py")
    parser.add_argument("--vit-epochs", default="30")
    parser.add_argument("--vit-size", default="96", help="side of its images, in pixels")
    parser.add_argument("-j", "--workers", default="0")
    parser.add_argument("--precision", default="auto", help="of training and of the caches")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", nargs="*", type=int, help="these rows alone, from 0")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # NAME@SEED, of one job
    options = parser.parse_args()
    options.views = options.views or options.epochs
    if options.only:
        name, _, seed = options.only.rpartition("@")
        run_rows([Row(name, (), (int(seed),))], lambda r, s: run(r.name, s, options), options.out)
        return
    names = [list(ROWS)[i] for i in options.rows or range(len(ROWS))]
    start(["conv teacher@0", "ViT teacher@0"], options)
    for teacher, words, _ in map(ROWS.__getitem__, names):
        if teacher:
            cached(teacher, size_of(words, options), options)
    jobs = [f"{name}@{seed}" for seed in range(options.seeds) for name in names]
    start(jobs, options)
    table = [Row("conv teacher", ()), Row("ViT teacher", ())]
    table += [Row(name, (), tuple(range(options.seeds))) for name in names]
    found = run_rows(table, lambda row, seed: run(row.name, seed, options), options.out)
    text = markdown(found, ACCURACIES)
    print_and_write(text, options.out / "table.md")


def start(jobs: list[str], options: argparse.Namespace) -> None:
    """Run jobs whose results are missing, so many at once."""

    def one(job: str) -> None:
        if not (options.out / f"{job.replace('@', '-')}.json").exists():
            command = [sys.executable, __file__, *sys.argv[1:], "--only", job]
            log = options.out / f"{job}.log"
            with log.open("w") as file:
                if subprocess.run(command, stdout=file, stderr=file).returncode:
                    print(f"{job} failed: {log}")

    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, jobs))


def run(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one student, or the ViT, and measure it; or measure the convolutional teacher."""
    if name == "conv teacher":
        named = ("--arch", options.teacher_arch) if options.teacher_arch else ()
        return measure(name, options.teacher, options.size, options, named)
    if name == "ViT teacher":
        out = train(name, seed, "conv", TOKENS, options, options.vit_epochs)
        return measure(name, out / "student.safetensors", options.vit_size, options)
    teacher, words, change = ROWS[name]
    size = size_of(words, options)
    if teacher:
        words = (*words, "--teacher-cache", str(cached(teacher, size, options)))
    with planned(change):
        out = train(name, seed, teacher, words, options, options.epochs)
    speed = last_figures(out, ["images_per_second"])
    return measure(f"{name}-{seed}", out / "student.safetensors", size, options) | speed


def size_of(words: tuple[str, ...], options: argparse.Namespace) -> str:
    """Side of a student's images, in pixels."""
    return str(options.vit_size if VIT in words else options.size)


def taught(teacher: str, options: argparse.Namespace) -> list[str]:
    """Options that name a teacher, if there is one."""
    if not teacher:
        return []
    if teacher == "conv":
        named = ["--teacher-arch", options.teacher_arch] if options.teacher_arch else []
        return ["--teacher", str(options.teacher), *named]
    file = options.out / "run ViT teacher-0" / "student.safetensors"
    return ["--teacher", str(file), "--teacher-size", options.vit_size]


def cached(teacher: str, size: str, options: argparse.Namespace) -> Path:
    """The folder of a teacher's answers to views of a size; made where it is not there."""
    folder: Path = options.out / f"cache of {teacher} at {size}"
    if not (folder / "cache.json").exists():
        words = [str(options.data), *taught(teacher, options), "--size", size]
        words += ["--views", options.views, "--out", str(folder), "-j", options.workers]
        words += ["--precision", options.precision, "--channels-last"]
        run_command(cache.main, words)
    return folder


def train(
    name: str, seed: int, teacher: str, words: tuple[str, ...], options: argparse.Namespace, n: str
) -> Path:
    """Train a student; returns its run's directory."""
    out: Path = options.out / f"run {name}-{seed}"
    argv = [str(options.data), *words, "-b", options.batch, "-j", options.workers, "--epochs", n]
    argv += ["--precision", options.precision, "--optimizer", options.optimizer]
    argv += ["--size", size_of(words, options), "--seed", str(seed), "--out", str(out)]
    argv += ["--knn-every", "0", "--health-every", "0"]
    argv += taught(teacher, options)
    run_command(pretrain.main, [*argv, "--resume"])
    return out


def measure(
    name: str, file: Path, size: str, options: argparse.Namespace, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """kNN and linear accuracy over all val images, all train images in the bank."""
    part = options.out / f"{name}.part.json"
    more = (*more, "-j", options.workers)
    return evaluate(file, options.data, part, 10**9, int(size), (20,), more)


@contextmanager
def planned(change: str) -> Iterator[None]:
    """Inside, plans are changed as a row says; otherwise they are the project's own."""
    original, farthest = distillation.plan_matching, stages.FARTHEST

    def changed(form: stages.Form) -> Callable[..., list[stages.Stage]]:
        return lambda *args: [replace(stage, form=form) for stage in original(*args)]

    try:
        if change == "one-sided":
            distillation.plan_matching = changed("rectified")
        if change == "two-sided":
            distillation.plan_matching = changed("standard")
        if change == "all":
            stages.FARTHEST = float("inf")
        yield
    finally:
        distillation.plan_matching, stages.FARTHEST = original, farthest


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
