"""Settings that every training command has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from mgd_ssl.choices import REDUCERS, Adapter, AssignmentMode
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

Weighing = Literal["none", "published", "mean", "start"]
# Stages that the papers leave out, by the student's architecture.
IGNORED = {"mobilenet_v2": (0,), "shufflenet_v2_x1_0": (0,)}


@dataclass(frozen=True)
class MGDOptions:
    """Matching Guided Distillation."""

    mgd_weighing: Weighing = "published"
    """How the stages' losses are weighed. published: strength times each stage's summed loss per
    image, which suits one resolution; mean: strength times its mean over elements; start: so that
    it begins at strength. The last two are free of resolution. none matches no maps."""
    mgd_strength: float = 1e-4
    """How much the matching counts; see --mgd-weighing."""
    mgd_stage_weights: tuple[float, ...] = ()
    """One weight per stage, including ignored stages. Unless given those of the paper: half of the
    next stage's (detect: 1, 1, 10, 10, …)."""
    mgd_reducer: Annotated[str, one_of(REDUCERS)] = "amp"
    """How a group of teacher channels becomes one."""
    mgd_mode: AssignmentMode = "balanced"
    """How channels are assigned; sm wants sparse."""
    mgd_adapter: Adapter = "batch"
    """Layer between the student's maps and the matching: batch or group norm; or expand, 1×1
    convolutions to the teacher's channels, which are then matched one to one, once."""
    mgd_update_freq: int = 0
    """Solve the matching every this many epochs (detect: steps). 0: the published schedule, at
    epochs 1, 2, 3, 6, 9, 15, … (detect: every 5000 steps, and 31000 after step 20000)."""
    mgd_update_images: int = 20000
    """Training images, at most, that a solve is based on."""
    ignore: tuple[int, ...] = ()
    """Stages, from 0, that take no part."""

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
        if self.is_matched and not self.mgd_strength > 0:
            raise ValueError(f"mgd_strength: got {self.mgd_strength}, expected above 0")
        if self.mgd_weighing == "start" and self.mgd_stage_weights:
            raise ValueError(
                "got --mgd-weighing start and --mgd-stage-weights, expected one of them; the first "
                "finds the stages' weights itself"
            )
        if self.mgd_adapter == "expand" and (self.mgd_reducer, self.mgd_mode) != (
            "amp",
            "balanced",
        ):
            raise ValueError(
                f"mgd_adapter: got expand with the reducer {self.mgd_reducer} and the mode "
                f"{self.mgd_mode}, which have no effect where channels are matched one to one; "
                "leave them out, or say --mgd-adapter batch"
            )
        require_least(self, mgd_update_images=1, mgd_update_freq=0)


@dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer and learning rate."""

    epochs: int = 200
    batch_size: Annotated[int, arg(aliases=["-b"])] = 256
    """Images a step, over all processes."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Each brings a learning rate and a weight decay of its own."""
    lr: float = 0.03
    """Learning rate for the batch size given; it is not scaled."""
    weight_decay: Annotated[float, arg(aliases=["--wd"])] = 1e-4
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Of SGD."""
    cos: bool = True
    """Cosine schedule, step by step; --no-cos multiplies by 0.1 at each of --schedule."""
    cos_per_epoch: bool = False
    """Let the cosine move once an epoch, as MoCo's code does."""
    schedule: tuple[int, ...] = (120, 160)
    """Epochs, from 0, at which the rate drops, with --no-cos."""
    warmup_epochs: int = 0
    """Epochs over which the rate rises from 0; classify adds them to --epochs."""

    def check(self) -> None:
        """Refuse what is out of range."""
        require_least(self, epochs=1, batch_size=1, momentum=0, weight_decay=0, warmup_epochs=0)
        if not self.momentum < 1:
            raise ValueError(f"momentum: got {self.momentum}, expected below 1")
        if self.cos_per_epoch and not self.cos:
            raise ValueError("got --cos-per-epoch and --no-cos, expected one of them")
        if self.nesterov and self.optimizer != "adamw" and self.momentum == 0:
            raise ValueError("nesterov: got it with momentum 0, expected above 0; --no-nesterov")


@dataclass(frozen=True)
class RunConfig(Settings):
    """Settings of every training command."""

    data: Data = None
    """Folder of images (any tree, train/ of class folders, IDX or CIFAR files). None: the embedded
    images."""
    out: Path = Path("runs/resnet18")
    """Directory of the run."""
    resume: bool = False
    """Resume the run from its last checkpoint, if there is one."""
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
    optim: OptimizerOptions = field(default_factory=OptimizerOptions)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)

    def check(self) -> None:
        """Refuse what is out of range, and what excludes each other."""
        if self.resume and self.overwrite:
            raise ValueError("got --resume and --overwrite, expected one of them")
        require_least(self, print_freq=1, save_every=0)
        self.mgd.check()
        self.optim.check()


def run_directory(said: Mapping[str, Any], arch: str | None, prefix: str = "") -> Path:
    """The directory of a run that names none: runs/ARCH."""
    name = str(said.get("arch") or arch or "student").replace("/", "-").replace(":", "-")
    return Path("runs") / f"{prefix}{name}"
