"""Settings of ``mgd-ssl classify``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from mgd_ssl.choices import usual_mode
from mgd_ssl.ranges import require_above, require_least
from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.image_run import ImageRunConfig, with_crops
from mgd_ssl.settings.inherited import (
    STORED_GRID,
    told_by_cache,
    told_by_start,
    told_by_teacher,
    usual_teacher_size,
)
from mgd_ssl.settings.methods import METHODS, STRENGTHS, usual_weighing
from mgd_ssl.settings.options import LoaderOptions, TeacherOptions
from mgd_ssl.settings.rules import OF_CACHE, shared_rules
from mgd_ssl.settings.run import (
    IGNORED,
    MGDOptions,
    OptimizerName,
    OptimizerOptions,
    run_directory,
    student_network,
)
from mgd_ssl.settings.views import preset

OF_GROUPS = ("mgd_reducer", "mgd_mode", "mgd_update_freq")  # which match channels in groups
SMALL = 96  # pixels of a side, below which a crop of a twelfth of the area holds too little


@dataclass(frozen=True)
class KDOptions:
    """Knowledge distillation of the teacher's logits."""

    kd: bool = False
    """Distill the teacher's logits too; the teacher must have a classifier of the same classes."""
    kd_t: float = 1.5
    """Temperature of the softened classes."""
    kd_weight: float = 1.0
    """Weight of this loss."""


@dataclass(frozen=True)
class ClassifyOptimizer(OptimizerOptions):
    """Optimizer and learning rate."""

    epochs: int = 120
    optimizer: OptimizerName = "muon"
    """SGD has its own default learning rate and weight decay; muon: Muon for the matrices of linear
    layers and convolutions, AdamW for all else."""
    lr: float = 0.0
    """Learning rate; it is not scaled with the batch size. 0, except with SGD: 0.001 with
    --student-weights, else 0.004, or 0.002 without batch norms; less in runs of more than 4,000
    steps."""
    nesterov: bool = True
    """Nesterov momentum, with SGD."""
    schedule: tuple[int, ...] = (30, 60, 80)
    """With --no-cos: epochs after the warm-up, from 0, at which the rate drops."""


@dataclass(frozen=True)
class ClassifyConfig(ImageRunConfig):
    """Train a classifier on labeled images, alone or distilled from a teacher.

    Without DATA it uses the embedded sample of Fashion-MNIST. Without a val part a fifth of each
    class serves as val. The maps of a teacher are matched unless --mgd-weighing none is given.
    """

    MAIN: ClassVar = (
        *("data", "teacher", "arch", "student_weights", "label_fraction", "out", "size", "epochs"),
        *("batch_size", "lr", "workers", "devices", "precision", "resume", "evaluate"),
    )
    EXAMPLE: ClassVar = "mgd-ssl classify photos --student-weights runs/resnet18 --epochs 30"

    evaluate: bool = False
    """Measure top-1 and top-5 of --student-weights and of the teacher, then exit. Without --size
    each network sees images of the size recorded in its file. The JSON file stands beside the
    checkpoint, or in --out."""
    student_weights: Path | None = None
    """Initial weights: a checkpoint (also of pretrain.py) or a name. The classifier is new unless
    the file has one of the same classes."""
    label_fraction: float = 1.0
    """Train on this share of the images of every class, chosen by the seed."""
    sync_bn: bool = False
    """Synchronize the batch norms of student and adapters over all processes."""
    val_every: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    kd: KDOptions = field(default_factory=KDOptions)
    optim: ClassifyOptimizer = field(default_factory=ClassifyOptimizer)

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """Size and stem, as far as a file records them; views, as a cache does.

        The initial weights take precedence over the teacher.
        """
        if said.get("evaluate"):  # each network is measured at the size of its own file
            return {}
        files = told_by_start(said) if said.get("student_weights") else told_by_teacher(said)
        return {**files, **told_by_cache(said)}

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The complete settings for a user's data or the embedded data."""
        embedded = not said.get("data")
        size = said.get("size", 32 if embedded else 224)
        usual = "crops" if size < SMALL else "linear"
        arch = None if said.get("student_weights") else said.get("arch", "resnet18")
        matched = said.get("teacher") is not None
        stored = said.get("teacher_cache") is not None
        weighing = said.get("mgd_weighing", usual_weighing(said) if matched else "none")
        groups = weighing == "published" or any(name in said for name in OF_GROUPS)
        form = METHODS["mgd" if groups else "mgd-plus"]
        return cls(
            data=said.get("data", ()),
            out=run_directory(said, arch, "classify-"),
            network=student_network(said, size, embedded),
            teacher=TeacherOptions(
                said.get("teacher"), teacher_size=usual_teacher_size(said, size, stored=stored)
            ),
            teacher_cache=said.get("teacher_cache"),
            mgd=MGDOptions(
                mgd_weighing=weighing,
                mgd_strength=STRENGTHS[weighing],
                mgd_mode=usual_mode(said.get("mgd_reducer", "amp")),
                mgd_adapter=form.adapter,
                mgd_grid=said.get("mgd_grid", STORED_GRID if stored else form.grid),
                mgd_update_freq=2,
                mgd_update_images=form.update_images,
                ignore=said.get("ignore", IGNORED.get(arch or "", ())),
            ),
            optim=_optim(said, embedded),
            loader=LoaderOptions(size=0 if said.get("evaluate") else size),
            views=with_crops(preset(said.get("preset", usual)), said),
        )

    def check(self) -> None:
        """Refuse values out of range and options that exclude each other."""
        super().check()
        kd, teacher = self.kd.kd, self.teacher.teacher
        if kd and not teacher:
            raise ValueError("got --kd without a teacher, expected --teacher PATH or NAME")
        if teacher and not (kd or self.mgd.is_matched or self.evaluate):
            raise ValueError(
                "got --mgd-weighing none without --kd, expected at least one loss from the "
                "teacher; add --kd, or omit --mgd-weighing none"
            )
        require_above(self.kd, kd_t=0, kd_weight=0)
        require_least(self, val_every=1)
        require_least(self.loader, size=0 if self.evaluate else 1)
        if self.evaluate and not self.student_weights:
            raise ValueError(
                "got --evaluate without --student-weights, expected --student-weights CHECKPOINT"
            )

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return RULES


def _optim(said: Mapping[str, Any], embedded: bool) -> ClassifyOptimizer:
    epochs = 10 if embedded else 120
    if said.get("optimizer") == "sgd":
        return ClassifyOptimizer(epochs=epochs, optimizer="sgd", lr=0.1, weight_decay=1e-4)
    return ClassifyOptimizer(epochs=epochs, weight_decay=0.05)


# Options that --evaluate does not use.
OF_TRAINING = [
    *(f"optim.{f.name}" for f in fields(ClassifyOptimizer) if f.name != "batch_size"),
    *("mgd.*", "kd.*", "views.*", "network.taps", "teacher.teacher_taps", "teacher.teacher_size"),
    *("loader.limit", "loader.bad_images", "loader.shuffle_blocks", "loader.mean", "loader.std"),
    *("resume", "print_freq", "save_every", "label_fraction", "sync_bn", "val_every"),
    *("teacher_cache", "cache_views"),
]
RULES = [
    Needs(OF_TRAINING, lambda c: not c.evaluate, "with --evaluate", "train without --evaluate"),
    Needs(["kd.kd_t", "kd.kd_weight"], lambda c: c.kd.kd, "without --kd", "add --kd"),
    *OF_CACHE,
    *shared_rules(
        "without matching", "match a teacher's maps: --teacher, without --mgd-weighing none"
    ),
]
