"""Settings of pretrain.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from mgd_ssl.choices import usual_mode
from mgd_ssl.objectives import OBJECTIVES, Objective
from mgd_ssl.objectives.objective import WithQueue, all_options
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
from mgd_ssl.settings.methods import METHODS, STRENGTHS, Method
from mgd_ssl.settings.options import LoaderOptions, TeacherOptions, one_of
from mgd_ssl.settings.rules import OF_CACHE, shared_rules
from mgd_ssl.settings.run import (
    IGNORED,
    MGDOptions,
    OptimizerOptions,
    run_directory,
    student_network,
)
from mgd_ssl.settings.views import PresetViews, preset

LEAST_HEALTH_IMAGES = 8  # fewer say nothing of a network's health
EMBEDDED_TEACHER = Path(__file__).parents[1] / "data" / "sample" / "teacher.pth.tar"
SMALL = 96  # pixels of a side, below which blur and strong jitter leave too little
KNN_K, EMBEDDED_KNN_K = 200, 20


@dataclass(frozen=True)
class EvaluationOptions:
    """Measurements during training: health without labels, kNN accuracy with labels."""

    best: Literal["agreement", "labels", "last"] = "last"
    """How best.pt is chosen. agreement: the largest share of neighbors, among held-out images, that
    student and teacher have in common; labels: the highest kNN accuracy; last: the last epoch."""
    eval_data: Path | None = None
    """Labeled data with train and val parts. None: DATA, if it has labels and a val part."""
    knn_every: int = 10
    """Epochs between kNN evaluations; 0: never. Otherwise the last epoch is always evaluated."""
    knn_k: int = KNN_K
    """Neighbors that vote; the default is lowered to the size of the bank."""
    knn_t: float = 0.1
    """Temperature of the votes."""
    knn_bank: int = 50000
    """Maximum number of training images in the bank."""
    health_every: int = 1
    """Epochs between measurements of the student's health, without labels; 0: never."""
    health_images: int = 512
    """Maximum number of images for the health figures: from val, or without a val part from a
    twentieth of train (at least 8), which is then held out of training."""

    def check(self) -> None:
        """Refuse values out of range."""
        require_least(self, knn_every=0, knn_k=1, knn_bank=1, health_every=0)
        require_least(self, health_images=LEAST_HEALTH_IMAGES)
        require_above(self, knn_t=0)


@dataclass(frozen=True)
class PretrainConfig(ImageRunConfig):
    """Distill a student from a teacher on unlabeled images, or train without a teacher.

    Without DATA it uses the embedded sample of Fashion-MNIST and the embedded teacher.
    """

    MAIN: ClassVar = (
        *("data", "teacher", "arch", "method", "out", "size", "epochs", "batch_size"),
        *("teacher_cache", "cache_views", "workers", "devices", "precision", "resume", "dry_run"),
    )
    EXAMPLE: ClassVar = "python pretrain.py photos --teacher dinov2_vits14_pretrain.pth -a resnet18"

    method: Annotated[str, one_of(METHODS)] = "moco"
    """mgd-plus: matching and regression of the teacher's pooled features; mgd: matching and MoCo,
    the method of 2021; simreg, seed, compress, disco: distill the teacher's pooled features; moco,
    simsiam: no teacher. --mgd-weighing adds matching to any of them. Default: mgd-plus with a
    teacher, else moco."""
    student_weights: Path | None = None
    """Initial weights of the student: a checkpoint, a run's directory, or a name, as for --teacher.
    The file determines the architecture. None: random weights."""
    dry_run: bool = False
    """Print the plan, its cost measured over a few real steps, and a first look at the teacher;
    write nothing."""
    objective: Objective = field(default_factory=OBJECTIVES["moco"])
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    @classmethod
    def widest(cls) -> Self:
        """Settings with the options of every objective."""
        return cls(objective=all_options(list(OBJECTIVES.values()))())

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """Size and stem, as far as a file records them; views, as a cache does.

        The initial weights take precedence over the teacher.
        """
        files = told_by_start(said) if said.get("student_weights") else told_by_teacher(said)
        return {**files, **told_by_cache(said)}

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The complete settings of a method, for a user's data or the embedded data."""
        embedded = not said.get("data")
        usual = "mgd-plus" if embedded or said.get("teacher") else "moco"
        name = said.get("method") or usual
        method = METHODS[name]
        weighing = said.get("mgd_weighing", method.weighing)
        matched = weighing != "none"
        teacher = said.get("teacher")
        if embedded and (matched or method.needs_teacher):
            teacher = teacher or EMBEDDED_TEACHER
        start, stored = said.get("student_weights"), said.get("teacher_cache") is not None
        arch = None if start else said.get("arch", "resnet18")
        size = said.get("size", 32 if embedded else 224)
        return cls(
            data=said.get("data", ()),
            out=run_directory(said, arch, suffix="" if name == usual else f"-{name}"),
            method=name,
            network=student_network(said, size, embedded),
            teacher=TeacherOptions(
                teacher, teacher_size=usual_teacher_size(said, size, stored=stored)
            ),
            teacher_cache=said.get("teacher_cache"),
            mgd=MGDOptions(
                mgd_weighing=weighing,
                mgd_strength=STRENGTHS[weighing],
                mgd_mode=usual_mode(said.get("mgd_reducer", "amp")),
                mgd_adapter=method.adapter,
                mgd_grid=said.get("mgd_grid", STORED_GRID if stored else method.grid),
                mgd_update_images=method.update_images,
                ignore=said.get("ignore", IGNORED.get(arch or "", ())),
            ),
            optim=_optim(said, method, embedded),
            loader=LoaderOptions(size=size),
            objective=_objective(method, embedded),
            views=with_crops(_preset(said, method, embedded), said),
            evaluation=EvaluationOptions(
                best="agreement" if teacher and said.get("health_every") != 0 else "last",
                knn_k=EMBEDDED_KNN_K if embedded else KNN_K,
            ),
        )

    def check(self) -> None:
        """Refuse values out of range, and a run without a loss."""
        super().check()
        self.objective.check()
        self.evaluation.check()
        require_least(self.loader, size=1)
        warmup, epochs = self.optim.warmup_epochs or 0, self.optim.epochs
        if warmup >= epochs:
            raise ValueError(
                f"warmup_epochs: got {warmup} of {epochs} epochs, expected fewer; give a smaller "
                "--warmup-epochs or more --epochs"
            )
        method, teacher = METHODS[self.method], self.teacher.teacher
        needs_teacher = method.needs_teacher or self.mgd.is_matched
        if teacher and not needs_teacher:
            raise ValueError(
                f"got --teacher with --method {self.method}, which uses none; omit one of them, or "
                "match the teacher's maps: --mgd-weighing start"
            )
        if teacher is None and needs_teacher:
            raise ValueError(
                f"method {self.method}: got no teacher, expected --teacher PATH, or --method moco "
                "without --mgd-weighing"
            )
        if self.optim.accumulate > 1 and isinstance(self.objective, WithQueue):
            raise ValueError(
                f"accumulate: got {self.optim.accumulate} with --method {self.method}, whose queue "
                "would take in one part of the batch before the next is compared with it, so that "
                "the parts do not add up to the batch; give a smaller --batch-size instead, or use "
                "--method mgd-plus or simreg"
            )
        if self.evaluation.best == "agreement" and not (teacher and self.evaluation.health_every):
            raise ValueError(
                "best: got agreement, which needs a teacher and held-out images; give --teacher "
                "and --health-every 1 or more, or use --best last"
            )
        if self.objective.objective_weight == 0 and not self.mgd.is_matched:
            raise ValueError(
                "objective_weight: got 0 without matching, so the loss would always be 0; add "
                "matching (--mgd-weighing start), or give a weight above 0"
            )

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return RULES


def _optim(said: Mapping[str, Any], method: Method, embedded: bool) -> OptimizerOptions:
    found = {"lr": 0.0, "weight_decay": None}  # by the number of steps
    published = {"lr": OBJECTIVES[method.objective].lr, "weight_decay": 1e-4}
    # On the embedded images mgd-plus, soon near its teacher, is better by AdamW; docs/log.md
    optimizer = said.get("optimizer", "adamw" if embedded else "muon")
    rates = published if optimizer == "sgd" else found
    return OptimizerOptions(optimizer=optimizer, epochs=10 if embedded else 200, **rates)


def _objective(method: Method, embedded: bool) -> Objective:
    objective = OBJECTIVES[method.objective](**method.options)
    smaller: dict[str, Any] = {"moco_k": 4096, "moco_m": 0.99, "moco_t": 0.1}
    known = {f.name for f in fields(objective)}
    return replace(objective, **{k: v for k, v in smaller.items() if embedded and k in known})


def _preset(said: Mapping[str, Any], method: Method, embedded: bool) -> PresetViews:
    if "preset" in said:
        return preset(said["preset"])
    if embedded:  # the images are gray: color jitter would cost time and change nothing
        gray = {"jitter_hue": 0.0, "jitter_saturation": 0.0, "gray_p": 0.0}
        return preset("small", crop_min=0.5, **gray)
    if OBJECTIVES[method.objective].needs_teacher:  # which says what to see in the colors
        return preset("crops")
    return preset("small" if said.get("size", 224) < SMALL else "moco_v2")


RULES = [
    *OF_CACHE,
    *shared_rules("without matching", "match the teacher's maps: --mgd-weighing start"),
    Needs(
        ["evaluation.eval_data", "evaluation.knn_k", "evaluation.knn_t", "evaluation.knn_bank"],
        lambda c: c.evaluation.knn_every > 0,
        "without kNN evaluation",
        "give --knn-every 1 or more",
    ),
    Needs(
        ["evaluation.health_images"],
        lambda c: c.evaluation.health_every > 0,
        "without health measurements",
        "give --health-every 1 or more",
    ),
]
