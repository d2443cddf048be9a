"""Settings that every training command has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from typing import Annotated, Any, Literal

from tyro.conf import arg

from mgd_ssl.choices import REDUCERS, Adapter, AssignmentMode
from mgd_ssl.loggers import LOGGERS, check_installed
from mgd_ssl.ranges import require_least
from mgd_ssl.settings.options import (
    Data,
    DeviceOptions,
    LoaderOptions,
    NetworkOptions,
    TeacherOptions,
    one_of,
)
from mgd_ssl.settings.settings import Settings

# Networks that can be made thinner, and those that can have a stem for small images.
THINNABLE = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2")
SMALL_STEMMED = (*THINNABLE, "shufflenet_v2_x1_0")
LEAST_USUAL_STEM = 48  # pixels of a side, below which a student's stem is the small one
OptimizerName = Literal["sgd", "adamw", "muon"]
Weighing = Literal["none", "published", "mean", "start"]
# Stages that the papers leave out, by the student's architecture.
IGNORED = {"mobilenet_v2": (0,), "shufflenet_v2_x1_0": (0,)}


@dataclass(frozen=True)
class MGDOptions:
    """Matching Guided Distillation."""

    mgd_weighing: Weighing = "published"
    """How the loss of a stage is weighed. published: its sum per image times the strength, which
    suits one resolution; mean: its mean over elements times the strength; start: scaled so that it
    starts at the strength, or at a thirtieth of it if the teacher has fewer maps than the student
    has stages, like a ViT. mean and start do not depend on the resolution. none: no maps are
    matched."""
    mgd_strength: float = 1e-4
    """Strength of the matching; see --mgd-weighing."""
    mgd_stage_weights: tuple[float, ...] = ()
    """One weight per stage, including ignored stages. Default: the paper's, each half of the next
    stage's (detect: 1, 1, 10, 10, …)."""
    mgd_reducer: Annotated[str, one_of(REDUCERS)] = "amp"
    """How a group of teacher channels is reduced to one."""
    mgd_mode: AssignmentMode = "balanced"
    """How channels are assigned; sm needs sparse."""
    mgd_adapter: Adapter = "batch"
    """Layer between the student's maps and the loss: batch or group norm, or expand, a 1×1
    convolution to the teacher's channels, which are matched one to one, once."""
    mgd_grid: int = 0
    """Largest side at which maps are compared; larger ones are averaged to it. 0: any side."""
    mgd_update_freq: int = 0
    """Solve the matching every this many epochs (detect: steps). 0: the published schedule, at
    epochs 1, 2, 3, 6, 9, 15, … (classify: every 2 epochs; detect: every 5000 steps, and 31000 after
    step 20000)."""
    mgd_update_images: int = 20000
    """Maximum number of training images for a solve."""
    ignore: tuple[int, ...] = ()
    """Stages to leave out, counted from 0."""

    @property
    def is_matched(self) -> bool:
        """Whether the teacher's maps are matched."""
        return self.mgd_weighing != "none"

    def scaling(self, published: Sequence[float]) -> dict[str, Any]:
        """Arguments of `FeatureDistiller` that weigh its stages.

        Args:
            published: one weight per stage, of the method's own total.
        """
        if self.mgd_weighing == "start":  # the distiller finds the weights
            return {"reduction": "element", "scale": 1.0, "stage_scale": lambda _: 1.0}
        return {
            "reduction": "image" if self.mgd_weighing == "published" else "element",
            "scale": self.mgd_strength,
            "stage_scale": self.stage_weights(len(published), published).__getitem__,
        }

    def stage_weights(self, stages: int, default: Sequence[float]) -> Sequence[float]:
        """The weights given, or ``default``.

        Raises:
            ValueError: their number differs from the stages', or one is negative.
        """
        given = self.mgd_stage_weights
        if given and (len(given) != stages or min(given) < 0):
            raise ValueError(
                f"mgd_stage_weights: got {', '.join(f'{w:g}' for w in given)} for {stages} stages, "
                "expected one weight of 0 or more per stage"
            )
        return given or default

    def check(self) -> None:
        """Refuse values out of range."""
        if self.is_matched and not self.mgd_strength > 0:
            raise ValueError(f"mgd_strength: got {self.mgd_strength}, expected above 0")
        if self.mgd_weighing == "start" and self.mgd_stage_weights:
            raise ValueError(
                "got --mgd-weighing start and --mgd-stage-weights, expected one of them; "
                "--mgd-weighing start chooses the stage weights automatically"
            )
        if self.mgd_adapter == "expand" and (self.mgd_reducer, self.mgd_mode) != (
            "amp",
            "balanced",
        ):
            raise ValueError(
                f"mgd_adapter: got expand with the reducer {self.mgd_reducer} and the mode "
                f"{self.mgd_mode}, which have no effect when channels are matched one to one; "
                "omit them, or use --mgd-adapter batch"
            )
        require_least(self, mgd_update_images=1, mgd_update_freq=0, mgd_grid=0)


@dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer and learning rate."""

    epochs: int = 200
    """Passes over the training images."""
    batch_size: Annotated[int, arg(aliases=["-b"])] = 0
    """Images per step, over all processes. 0: the largest power of two up to 256 that gives the run
    2,000 steps, but at least 32, and never more than a quarter of the training images (at least
    8)."""
    accumulate: int = 1
    """Compute a step in this many parts, one after the other, and add their gradients. This takes
    less memory than the whole batch at once. Batch norms compute their statistics over a part."""
    optimizer: OptimizerName = "sgd"
    """SGD has its own default learning rate and weight decay. muon: Muon for the matrices of linear
    layers and convolutions, AdamW for all else."""
    lr: float = 0.03
    """Learning rate; it is not scaled with the batch size. 0, except with SGD: found from the
    number of steps and from whether the student has batch norms."""
    weight_decay: Annotated[float | None, arg(aliases=["--wd"])] = 1e-4
    """Weight decay of the optimizer. None, except with SGD: 2 / (rate x steps), at most 0.5, if
    the student has batch norms, else 0.05."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Nesterov momentum, with SGD."""
    cos: bool = True
    """Cosine schedule, updated every step; --no-cos multiplies the rate by 0.1 at each epoch of
    --schedule."""
    cos_per_epoch: bool = False
    """Update the cosine once per epoch, as MoCo's code does."""
    schedule: tuple[int, ...] = (120, 160)
    """With --no-cos: epochs, from 0, at which the rate drops."""
    warmup_epochs: int | None = None
    """Epochs over which the rate rises from 0. classify adds them to --epochs. None: a tenth of the
    run, within --epochs; with SGD none."""

    clip_grad: float | None = None
    """Largest norm of the gradient; a larger one is scaled down to it. None: no limit."""
    ema: float | None = None
    """Decay per step of a moving average of the student, such as 0.999. The average is measured,
    saved and exported in place of the student. None: no average."""

    def check(self) -> None:
        """Refuse values out of range."""
        require_least(self, epochs=1, batch_size=0, momentum=0, weight_decay=0, warmup_epochs=0)
        require_least(self, accumulate=1, ema=0)
        if self.lr == 0 and self.optimizer == "sgd":
            raise ValueError(
                "lr: got 0, which finds a rate for adamw and muon, with the optimizer sgd; "
                "expected a number above 0"
            )
        if self.weight_decay is None and self.optimizer == "sgd":
            raise ValueError(
                "weight_decay: got None, which finds a decay for adamw and muon, with the "
                "optimizer sgd; expected 0 or more"
            )
        if self.clip_grad is not None and not self.clip_grad > 0:
            raise ValueError(f"clip_grad: got {self.clip_grad}, expected above 0")
        if self.ema is not None and not self.ema < 1:
            raise ValueError(f"ema: got {self.ema}, expected from 0 to below 1")
        if not self.momentum < 1:
            raise ValueError(f"momentum: got {self.momentum}, expected below 1")
        if self.cos_per_epoch and not self.cos:
            raise ValueError("got --cos-per-epoch and --no-cos, expected one of them")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ValueError(
                "nesterov: got momentum 0, expected above 0; raise it, or use --no-nesterov"
            )


@dataclass(frozen=True)
class RunConfig(Settings):
    """Settings of every training command."""

    data: Data = ()
    """Images: folders, shards, archives, lists, Parquet or Arrow files, or hf:NAME; several are
    used as one. See docs/data.md. None: the embedded images."""
    out: Path = Path("runs/resnet18")
    """Directory of the run. Default: runs/ARCH (classify: runs/classify-ARCH, detect:
    runs/detect-ARCH), with the method if it is not the default, and a number if that is taken."""
    resume: bool = False
    """Resume from the last checkpoint of --out, if there is one; without --out, of the last run
    that has these settings."""
    overwrite: bool = False
    """Delete the run in --out first."""
    seed: int = 0
    """Seed of everything random."""
    print_freq: Annotated[int, arg(aliases=["-p"])] = 50
    """Steps between log lines."""
    save_every: int = 0
    """Steps between checkpoints within an epoch. 0: one checkpoint per epoch."""
    logger: tuple[Annotated[str, one_of(LOGGERS)], ...] = ()
    """Loggers beside metrics.jsonl and TensorBoard, such as: --logger wandb mlflow. Each package is
    installed and set up separately; see docs/report.md."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    mgd: MGDOptions = field(default_factory=MGDOptions)
    optim: OptimizerOptions = field(default_factory=OptimizerOptions)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)

    def check(self) -> None:
        """Refuse values out of range and options that exclude each other."""
        if self.resume and self.overwrite:
            raise ValueError("got --resume and --overwrite, expected one of them")
        require_least(self, print_freq=1, save_every=0)
        check_installed(self.logger)
        self.mgd.check()
        self.optim.check()


def student_network(said: Mapping[str, Any], size: int, embedded: bool) -> NetworkOptions:
    """The student by default: with a stem for small images, and thin on the embedded data.

    Args:
        said: the options given; with ``student_weights`` the file says what it holds.
        size: side of its images in pixels.
        embedded: whether the images are the embedded ones.
    """
    if said.get("student_weights"):
        return NetworkOptions()
    arch = said.get("arch", "resnet18")
    thin = embedded and arch in THINNABLE
    small = size < LEAST_USUAL_STEM and arch in SMALL_STEMMED
    stem, stride = ("small", 2) if small else ("imagenet", 1)
    return NetworkOptions(
        "resnet18",
        0.125 if thin else 1.0,
        said.get("stem", stem),
        said.get("stem_stride", stride),
    )


class UnnamedDirectory(PosixPath):
    """A default directory; a run takes the first of NAME, NAME-2, NAME-3, … that is free."""


def run_directory(
    said: Mapping[str, Any], arch: str | None, prefix: str = "", suffix: str = ""
) -> UnnamedDirectory:
    """The directory of a run that names none: runs/ARCH, with a number if that is taken.

    It depends on the options alone and not on the disk; one process of the run adds the number.

    Args:
        said: the options given.
        arch: the architecture by default.
        prefix: of the name, for the command.
        suffix: of the name, for a method that is not the default.
    """
    name = str(said.get("arch") or arch or "student").replace("/", "-").replace(":", "-")
    return UnnamedDirectory("runs", f"{prefix}{name}{suffix}")
