"""Settings that every training command has, and how what was left open is filled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from tyro.conf import arg

from mgd_ssl.distiller import Adapter
from mgd_ssl.models import find_checkpoint
from mgd_ssl.settings.options import (
    Data,
    DeviceOptions,
    LoaderOptions,
    NetworkOptions,
    TeacherOptions,
)
from mgd_ssl.training.schedules import Kind, LearningRate

WEIGHTS = ("mgd_loss_factor", "mgd_weight", "mgd_start")  # ways to weigh the stages, one a run
Defaults = dict[str, dict[str, Any]]
Config = TypeVar("Config", bound="RunConfig")


@dataclass(frozen=True)
class MGDOptions:
    """Matching Guided Distillation."""

    mgd_reducer: Literal["amp", "sp", "sp_avg", "rd", "sm"] = "amp"
    """How a group of teacher channels becomes one."""
    mgd_mode: Literal["balanced", "shave", "sparse"] | None = None
    """How channels are assigned. [sparse for sm, else balanced]"""
    mgd_adapter: Adapter | None = None
    """Through what the student's maps meet the teacher's: batch or group norm; or expand, 1×1
    convolutions to the teacher's channels, which are then matched one to one, once.
    [mgd-plus expand, detect group, else batch]"""
    mgd_update_freq: int | None = None
    """Solve the matching every this many epochs (detect: steps). [pretrain: log-spaced epochs
    1, 2, 3, 6, 9, 15, …; classify: 2; detect: 5000, and 31000 after step 20000]"""
    mgd_update_images: int | None = None
    """Training images, at most, that a solve is based on. [20000; detect: 1,000 batches]"""
    mgd_loss_factor: float | None = None
    """What the stages' sums for each image are divided by. [1e4, tuned
    for 224 pixels, 100 on the embedded data; detect 5e7]"""
    mgd_weight: float | None = None
    """Weigh each stage's mean over elements by this instead; free of resolution."""
    mgd_start: float | None = None
    """Choose each stage's weight so that its loss begins at this instead; free of resolution,
    widths and norms. [mgd-plus 30, detect on the embedded data 0.03]"""
    mgd_fade: tuple[float, ...] = ()
    """Two epochs, from 0, between which the matching fades to nothing. [it does not fade]"""
    mgd_stage_weights: tuple[float, ...] = ()
    """Factor of each stage's loss, the ignored ones' too. [1/2^(n−1−i) of n stages; detect 1, 1,
    10, 10, …]"""
    ignore: tuple[int, ...] | None = None
    """Stages, from 0, that take no part. [0 for MobileNet v2 and ShuffleNet v2, else none]"""

    @property
    def given(self) -> list[str]:
        """Which of the three ways to weigh the stages were chosen."""
        return [name for name in WEIGHTS if getattr(self, name) is not None]

    def scaling(self, published: Sequence[float]) -> dict[str, Any]:
        """How a `FeatureDistiller` weighs its stages.

        Args:
            published: factors of the method's own total, a stage each.
        """
        if self.mgd_start is not None:  # found by the distiller itself
            return {"reduction": "element", "scale": 1.0, "stage_scale": lambda _: 1.0}
        stage_scale = self.stage_weights(len(published), published).__getitem__
        if self.mgd_weight is not None:
            return {"reduction": "element", "scale": self.mgd_weight, "stage_scale": stage_scale}
        assert self.mgd_loss_factor is not None
        return {
            "reduction": "image",
            "scale": 1 / self.mgd_loss_factor,
            "stage_scale": stage_scale,
        }

    def gain(self, epoch: float) -> float:
        """Factor on the matching after so many epochs: 1, then falling to 0 where it fades."""
        if not self.mgd_fade:
            return 1.0
        first, last = self.mgd_fade
        return min(1.0, max(0.0, (last - epoch) / (last - first)))

    def stage_weights(self, stages: int, default: Sequence[float]) -> Sequence[float]:
        """The factors given, or ``default``.

        Raises:
            ValueError: they are not one a stage, or one is negative.
        """
        given = self.mgd_stage_weights
        if given and (len(given) != stages or min(given) < 0):
            raise ValueError(
                f"mgd_stage_weights: got {', '.join(f'{w:g}' for w in given)} for {stages} stages, "
                "expected one of 0 or more for each stage of the plan"
            )
        return given or default

    def check(self) -> None:
        """Refuse what is out of range."""
        for name in self.given:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected above 0")
        if len(self.given) > 1:
            raise ValueError(f"got {' and '.join(self.given)}, expected one of them")
        if self.mgd_start is not None and self.mgd_stage_weights:
            raise ValueError(
                "got mgd_start and mgd_stage_weights, expected one of them; the first finds the "
                "stages' weights itself"
            )
        if self.mgd_adapter == "expand" and (self.mgd_reducer != "amp" or self.mgd_mode):
            raise ValueError(
                f"mgd_adapter: got expand with the reducer {self.mgd_reducer} and the mode "
                f"{self.mgd_mode}, which have no effect where channels are matched one to one; "
                "leave them out, or say --mgd-adapter batch"
            )
        fade = self.mgd_fade
        if fade and not (len(fade) == 2 and 0 <= fade[0] < fade[1]):
            raise ValueError(f"mgd_fade: got {fade}, expected two epochs, the first earlier")
        if self.mgd_update_images is not None and self.mgd_update_images < 1:
            raise ValueError(f"mgd_update_images: got {self.mgd_update_images}, expected 1 or more")
        if self.mgd_update_freq is not None and self.mgd_update_freq < 1:
            raise ValueError(f"mgd_update_freq: got {self.mgd_update_freq}, expected 1 or more")


@dataclass(frozen=True)
class OptimiserOptions:
    """Optimizer and learning rate."""

    epochs: int | None = None
    """[pretrain 200, classify 120, detect 12; fewer on the embedded data]"""
    batch_size: Annotated[int | None, arg(aliases=["-b"])] = None
    """Images a step, over all processes. [256, detect 16; fewer on the embedded data]"""
    optimizer: Literal["sgd", "adamw"] | None = None
    """[sgd; adamw for mgd-plus, and in detect on the embedded data]"""
    lr: float | None = None
    """For the batch size given; it is not scaled. [mgd-plus 2e-3, other methods of pretrain
    0.01 to 0.05, classify 0.1, detect 0.01; on the embedded data mgd-plus 2e-3, others 0.06 to 1,
    0.1 and 0.001]"""
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Of SGD."""
    weight_decay: Annotated[float | None, arg(aliases=["--wd"])] = None
    """[1e-4, 5e-4 on the embedded data; 0.05 for mgd-plus]"""
    cos: bool = True
    """Cosine schedule, step by step; --no-cos multiplies by 0.1 at each of --schedule."""
    cos_per_epoch: bool = False
    """Let the cosine move once an epoch, as MoCo's code does."""
    schedule: tuple[int, ...] = (120, 160)
    """Epochs, from 0, at which the rate drops, with --no-cos."""
    warmup_epochs: int = 0
    """Epochs over which the rate rises from 0; they come before those of classify's schedule."""

    def check(self) -> None:
        """Refuse what is out of range."""
        for name, least in (("epochs", 1), ("batch_size", 1), ("momentum", 0), ("weight_decay", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: got {value}, expected {least} or more")
        if not self.momentum < 1:
            raise ValueError(f"momentum: got {self.momentum}, expected below 1")
        if self.cos_per_epoch and not self.cos:
            raise ValueError("got --cos-per-epoch and --no-cos, expected one of them")
        if self.nesterov and self.optimizer != "adamw" and self.momentum == 0:
            raise ValueError("nesterov: got it with momentum 0, expected above 0; --no-nesterov")

    def learning_rate(self, *, extend: bool = False, warmup: float | None = None) -> LearningRate:
        """The schedule; the settings must be resolved.

        Args:
            extend: let the warm-up come before the schedule, and the run be longer by it.
            warmup: epochs, or parts of one, instead of ``warmup_epochs``.
        """
        assert self.lr is not None and self.epochs is not None
        cosine: Kind = "cosine_per_epoch" if self.cos_per_epoch else "cosine"
        kind: Kind = cosine if self.cos else "steps"
        later = self.warmup_epochs if extend else 0
        milestones = [m + later for m in self.schedule]
        warmup = self.warmup_epochs if warmup is None else warmup
        return LearningRate(self.lr, self.epochs + later, kind, milestones, warmup=warmup)


@dataclass(frozen=True)
class RunConfig:
    """What every training command may be told."""

    data: Data = None
    """Folder of images (any tree, train/ of class folders, IDX or CIFAR files)."""
    out: Path | None = None
    """Directory of the run. [runs/ARCH]"""
    resume: bool = False
    """Go on from the run's last checkpoint, where there is one."""
    overwrite: bool = False
    """Delete the run that the directory holds."""
    seed: int = 0
    print_freq: Annotated[int, arg(aliases=["-p"])] = 50
    """Steps between two lines of the log."""
    save_every: int = 0
    """Steps between two checkpoints within an epoch; 0 for one an epoch."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    mgd: MGDOptions = field(default_factory=MGDOptions)
    optim: OptimiserOptions = field(default_factory=OptimiserOptions)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)

    def filled(self, defaults: Defaults, prefix: str = "") -> Self:
        """Fill what was left open: ``defaults`` by section, and the run's directory.

        Raises:
            ValueError: a setting is out of range, or two exclude each other.
        """
        if self.resume and self.overwrite:
            raise ValueError("got --resume and --overwrite, expected one of them")
        require_least(self, print_freq=1, save_every=0)
        config = self
        for section, values in defaults.items():
            if section == "mgd" and self.mgd.given:
                values = {k: v for k, v in values.items() if k not in WEIGHTS}
            config = replace(config, **{section: _filled(getattr(config, section), values)})
        config.mgd.check()
        config.optim.check()
        config = config._with_files()
        arch = (config.network.arch or "student").replace("/", "-").replace(":", "-")
        return replace(config, out=config.out or Path("runs") / f"{prefix}{arch}")

    def _with_files(self) -> Self:
        """A run's directory stands for its last checkpoint."""
        names = ("student_weights", "backbone_weights")
        given = {name: getattr(self, name, None) for name in names}
        files: dict[str, Any] = {k: find_checkpoint(v) for k, v in given.items() if v}
        if self.teacher.teacher:
            teacher = find_checkpoint(self.teacher.teacher)
            files["teacher"] = replace(self.teacher, teacher=teacher)
        return replace(self, **files)


def _filled(section: Any, defaults: dict[str, Any]) -> Any:
    open_fields = [f.name for f in fields(section) if getattr(section, f.name) is None]
    return replace(section, **{k: v for k, v in defaults.items() if k in open_fields})


def require_least(settings: Any, **least: float) -> None:
    """Refuse settings below their least value; one that is open passes.

    Raises:
        ValueError: names the first.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and not value >= bound:
            raise ValueError(f"{name}: got {value}, expected {bound:g} or more")
