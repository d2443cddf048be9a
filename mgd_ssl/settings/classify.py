"""Settings of ``mgd-ssl classify``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from mgd_ssl.choices import usual_mode
from mgd_ssl.ranges import require_above, require_least
from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.inherited import told_by, told_by_teacher
from mgd_ssl.settings.options import LoaderOptions, NetworkOptions, TeacherOptions
from mgd_ssl.settings.rules import shared_rules
from mgd_ssl.settings.run import IGNORED, MGDOptions, OptimizerOptions, RunConfig, run_directory
from mgd_ssl.settings.views import PresetViews, preset

SMALL = 96  # pixels of a side, below which a crop of a twelfth of the area holds too little


@dataclass(frozen=True)
class KDOptions:
    """Knowledge distillation of the teacher's logits."""

    kd: bool = False
    """Add it to the loss; the teacher needs a classifier of the same classes."""
    kd_t: float = 1.5
    """Temperature of the softened classes."""
    kd_weight: float = 1.0
    """Factor on it."""


@dataclass(frozen=True)
class ClassifyOptimizer(OptimizerOptions):
    """Optimizer and learning rate."""

    epochs: int = 120
    lr: float = 0.1
    """Learning rate for the batch size given; it is not scaled."""
    nesterov: bool = True
    """Of SGD."""
    schedule: tuple[int, ...] = (30, 60, 80)
    """Epochs, from 0 and after the warm-up, at which the rate drops, with --no-cos."""


@dataclass(frozen=True)
class ClassifyConfig(RunConfig):
    """Train a classifier on labelled images, alone or distilled from a teacher.

    Without DATA it runs on the embedded sample of Fashion-MNIST. A teacher's maps are matched
    unless --mgd-weighing none.
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
    optim: ClassifyOptimizer = field(default_factory=ClassifyOptimizer)
    views: PresetViews = field(default_factory=lambda: preset("linear"))

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """Size and stem, where a file tells them; the weights to start from come first."""
        if said.get("evaluate"):  # each network is measured at the size of its own file
            return {}
        weights = said.get("student_weights")
        if weights is None:
            return told_by_teacher(said)
        names = ("arch", "width", "stem", "stem_stride")
        start = told_by(weights, {name: said.get(name) for name in names}, None)
        return {k: v for k, v in (told_by_teacher(said) | start).items() if k == "size"}

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The complete settings for a user's data, or for the embedded data."""
        embedded = said.get("data") is None
        size = said.get("size", 32 if embedded else 224)
        arch = None if said.get("student_weights") else said.get("arch", "resnet18")
        matched = said.get("teacher") is not None
        weighing = said.get("mgd_weighing", "published" if matched else "none")
        strengths = {
            "none": 0.0,
            "published": 1e-2 if embedded else 1e-4,
            "mean": 1.0,
            "start": 0.03,
        }
        return cls(
            data=said.get("data"),
            out=run_directory(said, arch, "classify-"),
            network=_network(said, embedded),
            teacher=TeacherOptions(said.get("teacher")),
            mgd=MGDOptions(
                mgd_weighing=weighing,
                mgd_strength=strengths[weighing],
                mgd_mode=usual_mode(said.get("mgd_reducer", "amp")),
                mgd_update_freq=2,
                ignore=IGNORED.get(arch or "", ()),
            ),
            optim=_optim(embedded),
            loader=LoaderOptions(size=0 if said.get("evaluate") else size),
            views=preset(said.get("preset", "weak" if size < SMALL else "linear")),
        )

    def check(self) -> None:
        """Refuse what is out of range, and what excludes each other."""
        super().check()
        kd, teacher = self.kd.kd, self.teacher.teacher
        if kd and not teacher:
            raise ValueError("got --kd without a teacher, expected --teacher PATH or NAME")
        if teacher and not (kd or self.mgd.is_matched or self.evaluate):
            raise ValueError(
                "got --mgd-weighing none without --kd, expected one of the two to distil by"
            )
        require_above(self.kd, kd_t=0, kd_weight=0)
        require_least(self, val_every=1)
        require_least(self.loader, size=0 if self.evaluate else 1)
        if self.evaluate and not self.student_weights:
            raise ValueError(
                "got --evaluate without --student-weights, expected a checkpoint there"
            )

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return RULES


def _network(said: Mapping[str, Any], embedded: bool) -> NetworkOptions:
    if said.get("student_weights"):  # the file says what it holds
        return NetworkOptions()
    width, stem, stride = (0.125, "small", 2) if embedded else (1.0, "imagenet", 1)
    return NetworkOptions(
        "resnet18", width, said.get("stem", stem), said.get("stem_stride", stride)
    )


def _optim(embedded: bool) -> ClassifyOptimizer:
    if embedded:
        return ClassifyOptimizer(epochs=10, batch_size=128, weight_decay=5e-4)
    return ClassifyOptimizer()


# What --evaluate reads none of.
OF_TRAINING = [
    *(f"optim.{f.name}" for f in fields(ClassifyOptimizer) if f.name != "batch_size"),
    *("mgd.*", "kd.*", "views.*", "network.taps", "teacher.teacher_taps"),
    *("loader.limit", "loader.bad_images", "loader.mean", "loader.std"),
    *("resume", "print_freq", "save_every", "label_fraction", "sync_bn", "val_every"),
]
RULES = [
    Needs(OF_TRAINING, lambda c: not c.evaluate, "with --evaluate", "train without --evaluate"),
    Needs(["kd.kd_t", "kd.kd_weight"], lambda c: c.kd.kd, "without --kd", "add --kd"),
    *shared_rules(
        "where no maps are matched", "match a teacher's: --teacher, without --mgd-weighing none"
    ),
]
