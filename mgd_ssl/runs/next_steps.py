"""What to do after a run: the commands that measure the student, the lines that load it."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from torch import nn

from mgd_ssl.models import BackboneSpec
from mgd_ssl.models.timm_networks import is_timm, own_defaults, timm_name
from mgd_ssl.models.torchvision_networks import CLASSIFIERS, head_attribute, needs_metadata
from mgd_ssl.settings.run import RunConfig


def next_steps(run: Path, data: Sequence[str], student: nn.Module, labeled: bool) -> str:
    """The text that a run ends with.

    Args:
        run: its directory.
        data: words that name the run's images; none for the embedded images.
        student: with its ``spec`` and ``head_name``.
        labeled: whether the images have labels.
    """
    words = [*data, *_named(student)]
    commands = evaluations(run, words) if labeled else neighbor_sheet(run, words)
    what = "Measure the student:" if labeled else "Look at the student's neighbors, without labels:"
    lines = ["", what, *commands, "", "Load it:", *loading(run / "student.safetensors", student)]
    return "\n".join(f"    {line}" if line in commands else line for line in lines)


def classifier_steps(checkpoint: Path, config: RunConfig, student: nn.Module) -> str:
    """The text that a run of classify ends with.

    Args:
        checkpoint: the one to go on with.
        config: of the run.
        student: with its ``spec``.
    """
    data, arch = data_words(config), _named(student)
    measure = ["classify", *data, "--evaluate", "--student-weights", str(checkpoint), *arch]
    export = ["export", str(checkpoint), *data, *arch]
    return "\n".join(
        [
            *("", "Measure the classifier:", f"    mgd-ssl {shlex.join(measure)}"),
            *("", "Write it for other libraries:", f"    mgd-ssl {shlex.join(export)}"),
        ]
    )


def detector_steps(checkpoint: Path, config: RunConfig, student: nn.Module) -> str:
    """The text that a run of detect ends with, where a whole detector was trained.

    Args:
        checkpoint: the one to go on with.
        config: of the run.
        student: the detector, with its ``spec``.
    """
    words = ["detect", *data_words(config), "--evaluate", "--student-weights", str(checkpoint)]
    words += _named(student)
    return "\n".join(
        [
            *("", "Measure the detector:", f"    mgd-ssl {shlex.join(words)}"),
            *("", "Load it:", "from mgd_ssl.detection import load_detector"),
            f"detector, _ = load_detector({str(checkpoint)!r}{_argument(student)})",
        ]
    )


def data_words(config: RunConfig) -> list[str]:
    """The words of a command line that name a run's images."""
    folders = {
        "--train-folder": config.loader.train_folder,
        "--val-folder": config.loader.val_folder,
    }
    options = [word for name, value in folders.items() if value for word in (name, value)]
    return [*map(str, config.data), *options]


def _named(student: nn.Module) -> list[str]:
    """The option that names a network of the user's own, which no file may name."""
    arch = cast(BackboneSpec, student.spec).arch
    return ["--arch", arch] if ":" in arch else []


def _argument(student: nn.Module) -> str:
    """The same option as an argument of Python, behind others."""
    return "".join(f", arch={arch!r}" for arch in _named(student)[1:])


def evaluations(run: Path, words: Sequence[str]) -> list[str]:
    """The commands of the evaluators, with words that come after the checkpoint."""
    words = [str(run / "checkpoints" / "last.pt"), *words]
    return [f"mgd-ssl {name} {shlex.join(words)}" for name in ("knn-eval", "linear-eval")]


def neighbor_sheet(run: Path, words: Sequence[str]) -> list[str]:
    """The command that draws neighbors of images that need no labels."""
    words = [str(run / "checkpoints" / "last.pt"), *words, "--retrieve", "10"]
    return [f"mgd-ssl knn-eval {shlex.join(words)}"]


def loading(file: Path, student: nn.Module) -> list[str]:
    """Lines of Python that load the student as a network that returns features.

    With torchvision or timm alone where they build such a network.

    Args:
        file: ``student.safetensors``.
        student: with its ``spec`` and ``head_name``.
    """
    spec = cast(BackboneSpec, student.spec)
    is_plain = spec.width == 1.0 and spec.stem == "imagenet" and ":" not in spec.arch
    if is_plain and spec.arch in CLASSIFIERS and not needs_metadata(spec.arch):
        made = f"torchvision.models.get_model({spec.arch!r})"
        headless = f"student.{head_attribute(student)} = torch.nn.Identity()"
        return _plain("torch, torchvision", made, file, headless)
    if is_plain and is_timm(spec.arch):
        given = {**own_defaults(timm_name(spec.arch)), **dict(spec.options)}
        options = "".join(f", {name}={value!r}" for name, value in given.items())
        made = f"timm.create_model({timm_name(spec.arch)!r}, num_classes=0{options})"
        return _plain("timm", made, file)
    arguments = f"{str(file)!r}{_argument(student)}"
    loaded = f"student, _ = mgd_ssl.load_backbone({arguments}); student.eval()"
    return ["import mgd_ssl", loaded]


def _plain(libraries: str, made: str, file: Path, *more: str) -> list[str]:
    return [
        f"import {libraries}; from safetensors.torch import load_file",
        "; ".join([f"student = {made}", *more]),
        f"student.load_state_dict(load_file({str(file)!r})); student.eval()",
    ]
