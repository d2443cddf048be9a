"""Settings of ``mgd-ssl classify``: what a user may say, and what stands where nothing was said."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mgd_ssl.data import ViewConfig
from mgd_ssl.settings.effects import Needs, refuse_without_effect, shared_rules
from mgd_ssl.settings.inherited import inherit
from mgd_ssl.settings.run import Defaults, OptimiserOptions, RunConfig


@dataclass(frozen=True)
class KDOptions:
    """Knowledge distillation of the teacher's logits."""

    kd: bool = False
    """Add it to the loss; the teacher needs a classifier of the same classes."""
    kd_t: float = 1.5
    """Temperature of the softened classes."""
    kd_weight: float = 1.0
    """Factor on it."""
    matching: bool = True
    """Match the teacher's channels; --no-matching leaves --kd alone."""


@dataclass(frozen=True)
class ClassifyOptimiser(OptimiserOptions):
    """Optimizer and learning rate."""

    nesterov: bool = True
    """Of SGD."""
    schedule: tuple[int, ...] = (30, 60, 80)
    """Epochs, from 0 and after the warm-up, at which the rate drops, with --no-cos."""


@dataclass(frozen=True)
class ClassifyConfig(RunConfig):
    """Train a classifier on labelled images, alone or distilled from a teacher.

    Without DATA it runs on the embedded sample of Fashion-MNIST.
    """

    evaluate: bool = False
    """Report top-1 and top-5 of --student-weights and of the teacher, then exit; each at the size
    that its file says, unless --size is given."""
    student_weights: Path | None = None
    """Start from these weights: a checkpoint, a run of pretrain.py among them, or a name; the
    classifier is new unless the file has one of as many classes."""
    label_fraction: float = 1.0
    """Train on this share of the labels, the same share of every class, chosen by the seed."""
    sync_bn: bool = False
    """Batch norm over all processes, of the student and of the adapters."""
    val_every: int = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    kd: KDOptions = field(default_factory=KDOptions)
    optim: ClassifyOptimiser = field(default_factory=ClassifyOptimiser)
    views: ViewConfig = field(default_factory=ViewConfig)


MATCHING: dict[str, Any] = {
    "mgd_update_images": 20000,
    "mgd_update_freq": 2,
    "mgd_adapter": "batch",
}
GENERAL: Defaults = {
    "network": {"arch": "resnet18", "width": 1.0, "stem": "imagenet", "stem_stride": 1},
    "optim": {
        "optimizer": "sgd",
        "epochs": 120,
        "batch_size": 256,
        "lr": 0.1,
        "weight_decay": 1e-4,
    },
    "loader": {"size": 224},
    "mgd": {"mgd_loss_factor": 1e4, **MATCHING},
}
EMBEDDED: Defaults = {
    "network": {"arch": "resnet18", "width": 0.125, "stem": "small", "stem_stride": 2},
    "optim": {"optimizer": "sgd", "epochs": 10, "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4},
    "loader": {"size": 32},
    "mgd": {"mgd_loss_factor": 100.0, **MATCHING},
}


def _matches(config: Any) -> bool:
    return config.teacher.teacher is not None and config.kd.matching


# What --evaluate reads none of.
OF_TRAINING = [
    *(f"optim.{f.name}" for f in fields(ClassifyOptimiser) if f.name != "batch_size"),
    *("mgd.*", "kd.*", "views.*", "network.taps", "teacher.teacher_taps"),
    *("loader.limit", "loader.bad_images", "loader.mean", "loader.std"),
    *("resume", "print_freq", "save_every", "label_fraction", "sync_bn", "val_every"),
]
RULES = [
    Needs(OF_TRAINING, lambda c: not c.evaluate, "with --evaluate", "train without --evaluate"),
    Needs(["kd.kd_t", "kd.kd_weight"], lambda c: c.kd.kd, "without --kd", "add --kd"),
    Needs(
        ["kd.matching"],
        lambda c: c.teacher.teacher is not None,
        "without a teacher",
        "name one: --teacher",
    ),
    *shared_rules(
        _matches,
        "where no maps are matched",
        "match a teacher's: --teacher, without --no-matching",
    ),
]


def resolve(config: ClassifyConfig) -> ClassifyConfig:
    """Fill what was left open; the result says everything that a run depends on.

    Raises:
        ValueError: options that exclude each other, or out of range.
    """
    defaults = EMBEDDED if config.data is None else GENERAL
    if config.student_weights:  # the file says what it holds
        defaults = {k: v for k, v in defaults.items() if k != "network"}
    if not config.evaluate:  # which measures each network at the size of its own file
        teacher = config.teacher
        defaults = inherit(defaults, config, teacher.teacher, teacher.spec)
        defaults = inherit(defaults, config, config.student_weights, config.network.spec)
    said, config = config, config.filled(defaults, "classify-")
    _check(config)
    refuse_without_effect(said, config, RULES, defaults)
    size = config.loader.size
    assert size is not None
    preset = config.views.preset or ("weak" if size < 96 else "linear")
    return replace(config, views=replace(config.views, preset=preset))


def _check(config: ClassifyConfig) -> None:
    kd, teacher = config.kd, config.teacher.teacher
    if kd.kd and not teacher:
        raise ValueError("got --kd without a teacher, expected --teacher PATH or NAME")
    if teacher and not (kd.kd or kd.matching):
        raise ValueError("got --no-matching without --kd, expected one of the two to distil by")
    if not kd.kd_t > 0 or not kd.kd_weight > 0:
        raise ValueError(f"got kd_t {kd.kd_t}, kd_weight {kd.kd_weight}, expected above 0")
    if config.val_every < 1:
        raise ValueError(f"val_every: got {config.val_every}, expected 1 or more")
    if config.evaluate and not config.student_weights:
        raise ValueError("got --evaluate without --student-weights, expected a checkpoint there")
