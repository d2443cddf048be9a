"""Settings of ``mgd-ssl detect``: what a user may say, and what stands where nothing was said."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from mgd_ssl.settings.effects import Needs, refuse_without_effect, shared_rules
from mgd_ssl.settings.run import Defaults, OptimiserOptions, RunConfig

LEVELS = ("c2", "c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7")


@dataclass(frozen=True)
class DetectorOptions:
    """The detector around the student's backbone: torchvision's RetinaNet with FPN."""

    fpn_channels: int | None = None
    """Channels of the feature pyramid and of the heads. [256; 64 on the embedded data]"""
    head_convs: int | None = None
    """Convolutions of each head. [4; 2 on the embedded data]"""
    smallest_anchor: float | None = None
    """Side of the smallest anchor in pixels; each level doubles it. [32; 16 embedded]"""
    min_size: int | None = None
    """Shorter side that images are resized to. [800; 128 on the embedded data]"""
    max_size: int | None = None
    """Longer side at most. [1333; 213 on the embedded data]"""
    norm: Literal["batch", "frozen"] | None = None
    """Batch norms of the body; frozen suits pretrained weights. [frozen with --backbone-weights]"""


@dataclass(frozen=True)
class DetectOptimiser(OptimiserOptions):
    """Optimizer and learning rate."""

    cos: bool = False
    """Cosine schedule; --no-cos multiplies by 0.1 at each of --schedule."""
    schedule: tuple[int, ...] = (8, 11)
    """Epochs, from 0, at which the rate drops, with --no-cos."""
    warmup_steps: int | None = None
    """Steps over which the rate rises from 0. [1000; 50 on the embedded data]"""


@dataclass(frozen=True)
class DetectConfig(RunConfig):
    """Train a RetinaNet on COCO-format data, alone or distilled from a RetinaNet.

    Without DATA it runs on scenes made of the embedded sample of Fashion-MNIST.
    """

    evaluate: bool = False
    """Report the AP of --student-weights and of the teacher, then exit."""
    student_weights: Path | None = None
    """Start from this detector: a run's checkpoint, a torchvision or Detectron2 file, or a name."""
    backbone_weights: Path | None = None
    """Start the backbone from this: a run of pretrain.py, MoCo's, torchvision's or Detectron2's."""
    unlabelled: bool = False
    """Images without boxes, any tree of them: the matching alone trains the backbone."""
    teacher_boxes: float | None = None
    """Let the teacher's boxes of at least this score stand for the images' own."""
    teacher_caffe: bool = False
    """The Detectron2 teacher is of the MSRA kind: BGR pixels, stride in the 1×1 convolution."""
    levels: tuple[Literal["c2", "c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7"], ...] = LEVELS[:4]  # type: ignore[assignment]
    """Maps that are matched: C2 to C5 before their last ReLU, P3 to P7 of the pyramid."""
    sync_bn: bool = False
    """Batch norm over all processes, of the student and of the adapters."""
    val_every: int = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    optim: DetectOptimiser = field(default_factory=DetectOptimiser)


GENERAL: Defaults = {
    "network": {"arch": "resnet18", "width": 1.0, "stem": "imagenet", "stem_stride": 1},
    "detector": {
        "fpn_channels": 256,
        "head_convs": 4,
        "smallest_anchor": 32.0,
        "min_size": 800,
        "max_size": 1333,
    },
    "optim": {"optimizer": "sgd", "epochs": 12, "batch_size": 16, "lr": 0.01, "weight_decay": 1e-4},
    "mgd": {"mgd_adapter": "group", "mgd_loss_factor": 5e7},
}
EMBEDDED: Defaults = {
    "network": {"arch": "resnet18", "width": 0.25, "stem": "imagenet", "stem_stride": 1},
    "detector": {
        "fpn_channels": 64,
        "head_convs": 2,
        "smallest_anchor": 16.0,
        "min_size": 128,
        "max_size": 213,
    },
    "optim": {
        "optimizer": "adamw",
        "epochs": 12,
        "batch_size": 8,
        "lr": 1e-3,
        "weight_decay": 1e-4,
    },
    "mgd": {"mgd_adapter": "group", "mgd_start": 0.03},
}


def _has_teacher(config: Any) -> bool:
    return config.teacher.teacher is not None


NORMALISATION = "torchvision's detectors have ImageNet's normalisation"
# What --evaluate reads none of: torchvision's boxes would be of half precision too under autocast.
OF_TRAINING = [
    *(f"optim.{f.name}" for f in fields(DetectOptimiser) if f.name != "batch_size"),
    *("mgd.*", "loader.limit", "loader.bad_images", "backbone_weights", "levels"),
    *("resume", "print_freq", "save_every", "sync_bn", "val_every", "unlabelled"),
    *("teacher_boxes", "device.precision", "device.channels_last", "device.compile"),
]
RULES = [
    Needs(OF_TRAINING, lambda c: not c.evaluate, "with --evaluate", "train without --evaluate"),
    Needs(
        ["loader.size"],
        lambda _: False,
        "in detect",
        "give --min-size and --max-size",
    ),
    Needs(["loader.mean", "loader.std"], lambda _: False, "in detect", NORMALISATION),
    Needs(["network.taps", "teacher.teacher_taps"], lambda _: False, "in detect", "give --levels"),
    Needs(["optim.warmup_epochs"], lambda _: False, "in detect", "give --warmup-steps"),
    Needs(["levels", "teacher_caffe"], _has_teacher, "without a teacher", "name one: --teacher"),
    *shared_rules(_has_teacher, "without a teacher", "name one: --teacher"),
]


def resolve(config: DetectConfig) -> DetectConfig:
    """Fill what was left open; the result says everything that a run depends on.

    Raises:
        ValueError: options that exclude each other, or out of range.
    """
    embedded = config.data is None
    defaults = EMBEDDED if embedded else GENERAL
    if config.student_weights:  # the file says what it holds
        defaults = {k: v for k, v in defaults.items() if k not in ("network", "detector")}
    said, config = config, config.filled(defaults, "detect-")
    _check(config)
    refuse_without_effect(said, config, RULES, defaults)
    optim, detector = config.optim, config.detector
    if optim.warmup_steps is None:
        optim = replace(optim, warmup_steps=50 if embedded else 1000)
    if detector.norm is None and not config.student_weights:
        norm: Literal["batch", "frozen"] = "frozen" if config.backbone_weights else "batch"
        detector = replace(detector, norm=norm)
    return replace(config, optim=optim, detector=detector)


def _check(config: DetectConfig) -> None:
    teacher, score = config.teacher.teacher, config.teacher_boxes
    if (config.unlabelled or score is not None) and not teacher and not config.evaluate:
        raise ValueError("got --unlabelled or --teacher-boxes alone, expected --teacher with them")
    if score is not None and not 0 < score < 1:
        raise ValueError(f"teacher_boxes: got {score}, expected a score between 0 and 1")
    if config.evaluate and not config.student_weights:
        raise ValueError("got --evaluate without --student-weights, expected a checkpoint there")
    if config.student_weights and config.backbone_weights:
        raise ValueError("got --student-weights and --backbone-weights, expected one of them")
    if config.val_every < 1 or (config.optim.warmup_steps or 0) < 0:
        raise ValueError(
            f"got val_every {config.val_every}, warmup_steps {config.optim.warmup_steps}, expected "
            "1 or more and 0 or more"
        )
    if not config.levels or len(set(config.levels)) < len(config.levels):
        raise ValueError(f"levels: got {config.levels}, expected one or more, each once")
