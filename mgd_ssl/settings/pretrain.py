"""Settings of pretrain.py: what a user may say, and what stands where nothing was said."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from mgd_ssl.data import ViewConfig
from mgd_ssl.objectives.simreg import Head
from mgd_ssl.settings.effects import refuse_without_effect
from mgd_ssl.settings.inherited import inherit
from mgd_ssl.settings.methods import DISTILS, RULES, Method, matches, weighed
from mgd_ssl.settings.run import Defaults, RunConfig, require_least

LEAST_HEALTH_IMAGES = 8  # fewer say nothing of a network's health
EMBEDDED_TEACHER = Path(__file__).parents[1] / "data" / "sample" / "teacher.pth.tar"


@dataclass(frozen=True)
class MoCoOptions:
    """The student's objective, Momentum Contrast."""

    moco_dim: int = 128
    """Dimension of the embedding."""
    moco_k: int | None = None
    """Keys in the queue, divisible by the batch. [65536; 4096 on the embedded data]"""
    moco_m: float | None = None
    """Momentum of the key encoder. [0.999; 0.99 on the embedded data]"""
    moco_t: float | None = None
    """Temperature; MoCo v1 0.07. [0.2; 0.1 on the embedded data]"""
    mlp: bool = True
    """Hidden layer in the head (MoCo v2)."""
    bn_splits: int | None = None
    """Parts of a batch that batch norm treats apart. [8 on one process, else 1]"""


@dataclass(frozen=True)
class ObjectiveOptions:
    """What drives the student beside the matching."""

    objective_weight: float = 1.0
    """Factor on the objective's losses; 0 leaves the matching alone."""
    regression_head: Head | None = None
    """mgd-plus and simreg: layers of the head that is thrown away. [linear in mgd-plus, four
    in simreg]"""
    seed_t: float = 0.2
    """seed: temperature of the student."""
    seed_teacher_t: float = 0.01
    """seed: temperature of the teacher."""
    compress_queues: Literal[1, 2] = 1
    """compress: one bank of teacher embeddings, or a bank for each network."""
    compress_t: float = 0.04
    """compress: temperature of both networks."""
    disco_hidden: int = 2048
    """disco: width of the head."""
    disco_weight: float = 1.0
    """disco: factor on the squared distance to the teacher's embedding."""
    simsiam_dim: int = 2048
    """simsiam: dimension of the projection, divisible by 4."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured as training goes: health without labels, kNN accuracy with them."""

    best: Literal["agreement", "labels", "last"] | None = None
    """What chooses best.pt: agreement, the share of neighbours among held-out images that student
    and teacher agree on; labels, the kNN accuracy; or the last epoch. Labels are read for the kNN
    figures, and choose nothing unless asked to. [agreement with a teacher, else last]"""
    eval_data: Path | None = None
    """Labelled folder with train and val parts. [DATA, where it has labels]"""
    knn_every: int = 10
    """Epochs between two evaluations; 0 never. The last epoch is always evaluated."""
    knn_k: int | None = None
    """Neighbours that vote. [200, or as many as the bank holds; 20 on the embedded data]"""
    knn_t: float = 0.1
    knn_bank: int = 50000
    """Training images, at most, in the bank."""
    health_every: int = 1
    """Epochs between two looks at the student's health, which needs no labels; 0 never."""
    health_images: int = 512
    """Images, at most, that it is taken from: of val, or where there is no val part a twentieth of
    train (8 at least), which is then kept out of training."""


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Distil a student from a teacher on unlabelled images, or train plain MoCo.

    Without DATA it runs on the embedded sample of Fashion-MNIST with the embedded teacher.
    """

    method: Method | None = None
    """mgd-plus regresses the teacher's pooled features beside the matching; mgd is moco matched
    with the weights of 2021; simreg, seed, compress and disco distil the teacher's pooled features;
    moco and simsiam train alone. All are matched too with --mgd-weight, --mgd-start or
    --mgd-loss-factor.
    [mgd-plus where there is a teacher, else moco]"""
    aug_plus: bool = False
    """The same as --preset moco_v2, which images of 96 pixels and more get anyway."""
    moco: MoCoOptions = field(default_factory=MoCoOptions)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    views: ViewConfig = field(default_factory=ViewConfig)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)


MATCHING: dict[str, Any] = {"mgd_update_images": 20000, "mgd_adapter": "batch"}
# Learning rate and weight decay that suit an optimizer, where a method has none of its own.
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.03, "weight_decay": 1e-4}
ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.05}
OPTIMISERS = {"sgd": SGD, "adamw": ADAMW}
GENERAL: Defaults = {
    "network": {"arch": "resnet18", "width": 1.0, "stem": "imagenet", "stem_stride": 1},
    "moco": {"moco_k": 65536, "moco_m": 0.999, "moco_t": 0.2},
    "optim": {**SGD, "epochs": 200, "batch_size": 256},
    "loader": {"size": 224},
    "mgd": MATCHING,
}
EMBEDDED: Defaults = {
    "network": {"arch": "resnet18", "width": 0.125, "stem": "small", "stem_stride": 2},
    "moco": {"moco_k": 4096, "moco_m": 0.99, "moco_t": 0.1},
    "optim": {**SGD, "epochs": 10, "batch_size": 128, "lr": 0.06, "weight_decay": 5e-4},
    "loader": {"size": 32},
    "mgd": MATCHING,
    # The images are grey: colour jitter would cost time and change nothing.
    "views": {
        "preset": "small",
        "crop_min": 0.5,
        "jitter_hue": 0.0,
        "jitter_saturation": 0.0,
        "grey_p": 0.0,
    },
}
# What a method has of its own, on data of the user and on the embedded data.
PLUS: Defaults = {
    "objective": {"regression_head": "linear"},
    "mgd": {"mgd_adapter": "expand", "mgd_start": 30.0},
    "optim": ADAMW,
}
FOUR: Defaults = {"objective": {"regression_head": "four"}}
RECIPES: dict[Method, tuple[Defaults, Defaults]] = {
    "mgd-plus": (PLUS, PLUS),
    "mgd": ({"mgd": {"mgd_loss_factor": 1e4}}, {"mgd": {"mgd_loss_factor": 100.0}}),
    "simreg": ({**FOUR, "optim": {"lr": 0.05}}, {**FOUR, "optim": {"lr": 1.0}}),
    "compress": ({"optim": {"lr": 0.01}}, {"optim": {"lr": 0.3}}),
    "seed": ({}, {"optim": {"lr": 0.3}}),
}


def resolve(config: PretrainConfig) -> PretrainConfig:
    """Fill what was left open; the result says everything that a run depends on.

    Raises:
        ValueError: options that exclude each other.
    """
    said, config = config, _resolve_method(config)
    teacher = config.teacher
    defaults = inherit(_defaults(config), config, teacher.teacher, teacher.spec)
    config = config.filled(defaults)
    _check(config)
    refuse_without_effect(said, config, RULES, defaults)
    size = config.loader.size
    assert size is not None
    if config.aug_plus and config.views.preset not in (None, "moco_v2"):
        raise ValueError(f"got --aug-plus and --preset {config.views.preset}, expected one of them")
    preset = config.views.preset or ("small" if size < 96 else "moco_v2")
    preset = "moco_v2" if config.aug_plus else preset
    return replace(config, views=replace(config.views, preset=preset))


def _defaults(config: PretrainConfig) -> Defaults:
    """The method's own defaults over those of the data."""
    embedded = config.data is None
    defaults = dict(EMBEDDED if embedded else GENERAL)
    if config.views != ViewConfig() or config.aug_plus:
        defaults.pop("views", None)
    own = RECIPES.get(cast(Method, config.method), ({}, {}))[embedded]
    defaults |= {name: defaults.get(name, {}) | values for name, values in own.items()}
    chosen = config.optim.optimizer or defaults["optim"]["optimizer"]
    if chosen != defaults["optim"]["optimizer"]:  # a rate and a decay of the other are of no use
        defaults["optim"] = defaults["optim"] | OPTIMISERS[chosen]
    return defaults


def _check(config: PretrainConfig) -> None:
    """Refuse what is out of range, and a run that nothing drives."""
    objective = config.objective
    require_least(config.evaluation, knn_every=0, knn_k=1, knn_bank=1, health_every=0)
    require_least(config.evaluation, health_images=LEAST_HEALTH_IMAGES)
    require_least(config.moco, moco_dim=1, moco_k=1, moco_m=0, bn_splits=1)
    require_least(objective, objective_weight=0, disco_hidden=1, disco_weight=0, simsiam_dim=4)
    above = {
        "moco_t": config.moco.moco_t,
        "seed_t": objective.seed_t,
        "seed_teacher_t": objective.seed_teacher_t,
        "compress_t": objective.compress_t,
        "knn_t": config.evaluation.knn_t,
    }
    for name, value in above.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}: got {value}, expected above 0")
    if objective.objective_weight == 0 and not matches(config):
        raise ValueError(
            "objective_weight: got 0 and no maps to match, so that the loss would be 0 throughout; "
            "match the teacher's maps (--mgd-weight or --mgd-start), or give a weight above 0"
        )


def _resolve_method(config: PretrainConfig) -> PretrainConfig:
    teacher, alone = config.teacher.teacher, config.method in ("moco", "simsiam")
    alone = alone and not weighed(config)
    if alone and teacher:
        raise ValueError(
            f"got --teacher with --method {config.method}, which has none; drop one of them, or "
            "match its maps: --mgd-weight, --mgd-start or --mgd-loss-factor"
        )
    if teacher is None and config.data is None and not alone:
        teacher = EMBEDDED_TEACHER
    method: Method = config.method or ("mgd-plus" if teacher else "moco")
    if teacher is None and (method in DISTILS or weighed(config)):
        raise ValueError(
            f"method {method}: got no teacher, expected --teacher PATH, or --method moco without "
            "--mgd-weight, --mgd-start and --mgd-loss-factor"
        )
    return replace(config, method=method, teacher=replace(config.teacher, teacher=teacher))
