"""Settings of pretrain.py: what a user may say, and what stands where nothing was said."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from mgd_ssl.commands.options import (
    Data,
    DeviceOptions,
    LoaderOptions,
    NetworkOptions,
    TeacherOptions,
)
from mgd_ssl.data import ViewConfig
from mgd_ssl.training.schedules import LearningRate

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
    contrastive_weight: float = 1.0
    """Factor on InfoNCE."""


@dataclass(frozen=True)
class MGDOptions:
    """Matching Guided Distillation."""

    mgd_reducer: Literal["amp", "sp", "sp_avg", "rd", "sm"] = "amp"
    """How a group of teacher channels becomes one."""
    mgd_mode: Literal["balanced", "shave", "sparse"] | None = None
    """How channels are assigned. [sparse for sm, else balanced]"""
    mgd_update_freq: int | None = None
    """Solve the matching every this many epochs. [log-spaced epochs 1, 2, 3, 6, 9, 15, …]"""
    mgd_update_images: int = 20000
    """Training images, at most, that a solve is based on."""
    mgd_loss_factor: float | None = None
    """What the stages' sums for each image are divided by. [1e4, tuned for 224; 100 embedded]"""
    mgd_element_weight: float | None = None
    """Weigh each stage's mean over elements by this instead; free of resolution."""
    ignore: tuple[int, ...] | None = None
    """Stages, from 0, that take no part. [0 for MobileNet v2 and ShuffleNet v2, else none]"""

    def __post_init__(self) -> None:
        if self.mgd_loss_factor is not None and not self.mgd_loss_factor > 0:
            raise ValueError(f"mgd_loss_factor: got {self.mgd_loss_factor}, expected above 0")
        if self.mgd_update_images < 1:
            raise ValueError(f"mgd_update_images: got {self.mgd_update_images}, expected 1 or more")


@dataclass(frozen=True)
class OptimiserOptions:
    """Optimizer and learning rate."""

    epochs: int | None = None
    """[200; 10 on the embedded data]"""
    batch_size: Annotated[int | None, arg(aliases=["-b"])] = None
    """Images a step, over all processes. [256; 128 on the embedded data]"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | None = None
    """For the batch size given; it is not scaled. [0.03; 0.06 on the embedded data]"""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: Annotated[float | None, arg(aliases=["--wd"])] = None
    """[1e-4; 5e-4 on the embedded data]"""
    cos: bool = True
    """Cosine schedule; --no-cos multiplies by 0.1 at each of --schedule."""
    schedule: tuple[int, ...] = (120, 160)
    """Epochs at which the rate drops, with --no-cos."""
    warmup_epochs: int = 0


@dataclass(frozen=True)
class EvaluationOptions:
    """kNN accuracy as training goes; needs labels."""

    eval_data: Path | None = None
    """Labelled folder with train and val parts. [DATA, where it has labels]"""
    knn_every: int = 10
    """Epochs between two evaluations; 0 never. The last epoch is always evaluated."""
    knn_k: int | None = None
    """Neighbours that vote. [200; 20 on the embedded data]"""
    knn_t: float = 0.1
    knn_bank: int = 50000
    """Training images, at most, in the bank."""


@dataclass(frozen=True)
class PretrainConfig:
    """Distil a student from a teacher on unlabelled images, or train plain MoCo.

    Without DATA it runs on the embedded sample of Fashion-MNIST with the embedded teacher.
    """

    data: Data = None
    """Folder of images (any tree, train/ of class folders, IDX or CIFAR files)."""
    out: Path | None = None
    """Directory of the run. [runs/ARCH]"""
    method: Literal["mgd", "moco"] | None = None
    """mgd distils, moco trains without a teacher. [mgd where there is a teacher]"""
    resume: bool = False
    """Go on from the run's last checkpoint, where there is one."""
    overwrite: bool = False
    """Delete the run that the directory holds."""
    seed: int = 0
    print_freq: Annotated[int, arg(aliases=["-p"])] = 50
    """Steps between two lines of the log."""
    save_every: int = 0
    """Steps between two checkpoints within an epoch; 0 for one an epoch."""
    aug_plus: bool = False
    """The same as --preset moco_v2, which images of 96 pixels and more get anyway."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    moco: MoCoOptions = field(default_factory=MoCoOptions)
    mgd: MGDOptions = field(default_factory=MGDOptions)
    optim: OptimiserOptions = field(default_factory=OptimiserOptions)
    views: ViewConfig = field(default_factory=ViewConfig)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)

    @property
    def learning_rate(self) -> LearningRate:
        """The schedule; the settings must be resolved."""
        optim = self.optim
        assert optim.lr is not None and optim.epochs is not None
        kind: Literal["cosine", "steps"] = "cosine" if optim.cos else "steps"
        return LearningRate(
            optim.lr, optim.epochs, kind, optim.schedule, warmup=optim.warmup_epochs
        )


GENERAL: dict[str, dict[str, Any]] = {
    "network": {"arch": "resnet18", "width": 1.0, "stem": "imagenet", "stem_stride": 1},
    "moco": {"moco_k": 65536, "moco_m": 0.999, "moco_t": 0.2},
    "optim": {"epochs": 200, "batch_size": 256, "lr": 0.03, "weight_decay": 1e-4},
    "loader": {"size": 224},
    "evaluation": {"knn_k": 200},
    "mgd": {"mgd_loss_factor": 1e4},
}
EMBEDDED: dict[str, dict[str, Any]] = {
    "network": {"arch": "resnet18", "width": 0.125, "stem": "small", "stem_stride": 2},
    "moco": {"moco_k": 4096, "moco_m": 0.99, "moco_t": 0.1},
    "optim": {"epochs": 10, "batch_size": 128, "lr": 0.06, "weight_decay": 5e-4},
    "loader": {"size": 32},
    "evaluation": {"knn_k": 20},
    "mgd": {"mgd_loss_factor": 100.0},
    # The images are grey: colour jitter would cost time and change nothing.
    "views": {
        "preset": "small",
        "crop_min": 0.5,
        "jitter_hue": 0.0,
        "jitter_saturation": 0.0,
        "grey_p": 0.0,
    },
}


def resolve(config: PretrainConfig) -> PretrainConfig:
    """Fill what was left open; the result says everything that a run depends on.

    Raises:
        ValueError: options that exclude each other.
    """
    if config.resume and config.overwrite:
        raise ValueError("got --resume and --overwrite, expected one of them")
    for section, defaults in (EMBEDDED if config.data is None else GENERAL).items():
        if section != "views" or (config.views == ViewConfig() and not config.aug_plus):
            config = replace(config, **{section: _filled(getattr(config, section), defaults)})
    config = _resolve_method(config)
    size = config.loader.size
    assert size is not None
    if config.aug_plus and config.views.preset not in (None, "moco_v2"):
        raise ValueError(f"got --aug-plus and --preset {config.views.preset}, expected one of them")
    preset = config.views.preset or ("small" if size < 96 else "moco_v2")
    return replace(
        config,
        out=config.out or Path("runs") / str(config.network.arch).replace("/", "-"),
        views=replace(config.views, preset="moco_v2" if config.aug_plus else preset),
    )


def _filled(section: Any, defaults: dict[str, Any]) -> Any:
    open_fields = [f.name for f in fields(section) if getattr(section, f.name) is None]
    return replace(section, **{k: v for k, v in defaults.items() if k in open_fields})


def _resolve_method(config: PretrainConfig) -> PretrainConfig:
    teacher = config.teacher.teacher
    if config.method == "moco":
        if teacher:
            raise ValueError("got --teacher with --method moco, which has none; drop one of them")
        return config
    if teacher is None and config.data is None:
        teacher = EMBEDDED_TEACHER
    if teacher is None and config.method == "mgd":
        raise ValueError("method mgd: got no teacher, expected --teacher PATH, or --method moco")
    method: Literal["mgd", "moco"] = "mgd" if teacher else "moco"
    return replace(config, method=method, teacher=replace(config.teacher, teacher=teacher))
