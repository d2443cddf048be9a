"""Settings of ``mgd-ssl detect``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from tyro.conf import arg

from mgd_ssl.choices import usual_mode
from mgd_ssl.ranges import require_least
from mgd_ssl.settings.effects import Needs, never
from mgd_ssl.settings.inherited import told_by_body
from mgd_ssl.settings.methods import STRENGTHS, usual_weighing
from mgd_ssl.settings.options import Data, LoaderOptions, NetworkOptions, TeacherOptions, named
from mgd_ssl.settings.rules import shared_rules
from mgd_ssl.settings.run import (
    MGDOptions,
    OptimizerName,
    OptimizerOptions,
    RunConfig,
    run_directory,
)

Level = Literal["c2", "c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7"]
BODY_LEVELS: tuple[Level, ...] = ("c2", "c3", "c4", "c5")


@dataclass(frozen=True)
class BodyOptions(NetworkOptions):
    """The body of the student's detector. None: as recorded in the file of its weights."""

    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """Architecture: a ResNet of torchvision."""


@dataclass(frozen=True)
class DetectorTeacherOptions(TeacherOptions):
    """The teacher. None: as recorded in its file."""

    teacher: Path | None = None
    """A RetinaNet: a run's directory or checkpoint, a torchvision or Detectron2 file, or
    retinanet_resnet50_fpn or retinanet_resnet50_fpn_v2."""
    teacher_arch: str | None = None
    """Architecture of the teacher's body: a ResNet of torchvision."""


@dataclass(frozen=True)
class DetectorOptions:
    """The detector around the student's backbone, torchvision's RetinaNet with FPN. None: as
    recorded in the file of --student-weights."""

    fpn_channels: int | None = 256
    """Channels of the feature pyramid and of the heads."""
    head_convs: int | None = 4
    """Convolutions of each head."""
    smallest_anchor: float | None = 32.0
    """Side of the smallest anchor in pixels; each level doubles it."""
    min_size: int | None = 800
    """Shorter side of the resized images, in pixels."""
    max_size: int | None = 1333
    """Maximum longer side, in pixels."""
    norm: Literal["batch", "frozen"] | None = "batch"
    """Batch norms of the body: trained, or frozen as suits pretrained weights."""


@dataclass(frozen=True)
class DetectOptimizer(OptimizerOptions):
    """Optimizer and learning rate."""

    epochs: int = 12
    batch_size: Annotated[int, arg(aliases=["-b"])] = 8
    """Images per step, over all processes."""
    optimizer: OptimizerName = "muon"
    """SGD has its own default learning rate; muon: Muon for the matrices of convolutions, AdamW for
    all else."""
    lr: float = 0.0
    """Learning rate; it is not scaled with the batch size. 0, except with SGD: 0.001, less in runs
    of more than 4,000 steps."""
    schedule: tuple[int, ...] = (8, 11)
    """With --no-cos: epochs, from 0, at which the rate drops."""
    warmup_steps: int = 1000
    """Steps over which the rate rises from 0; a tenth of the run at most."""


@dataclass(frozen=True)
class DetectConfig(RunConfig):
    """Train a RetinaNet on COCO-format data, alone or distilled from a RetinaNet.

    Without DATA it uses scenes composed of the embedded sample of Fashion-MNIST.
    """

    MAIN: ClassVar = (
        *("data", "teacher", "arch", "width", "student_weights", "backbone_weights", "unlabeled"),
        *("min_size", "max_size", "out"),
        *("epochs", "batch_size", "lr", "workers", "devices", "resume", "evaluate"),
    )
    EXAMPLE: ClassVar = "mgd-ssl detect coco --backbone-weights runs/resnet18"

    data: Data = ()
    """One folder in COCO's layout: train2017/, val2017/, annotations/instances_*.json; see
    docs/guides/detection.md. With --unlabeled: images in any form of docs/data.md. None: the
    embedded scenes."""
    evaluate: bool = False
    """Report the AP of --student-weights and of the teacher, then exit. The JSON file stands
    beside the checkpoint, or in --out."""
    student_weights: Path | None = None
    """Initial detector: a run's checkpoint, a torchvision or Detectron2 file, or a name."""
    backbone_weights: Path | None = None
    """Initial backbone: a run of pretrain.py, or a file of MoCo, torchvision or Detectron2. The
    detector takes its architecture, width and stem, unless you name them."""
    unlabeled: bool = False
    """Train the backbone by matching alone, on images without boxes."""
    teacher_boxes: float | None = None
    """Replace the images' boxes by the teacher's detections of at least this score."""
    teacher_caffe: bool = False
    """The Detectron2 teacher uses MSRA weights: BGR pixels, stride in the 1×1 convolution."""
    levels: tuple[Level, ...] = BODY_LEVELS
    """Maps to match: C2 to C5 before their last ReLU, P3 to P7 of the pyramid."""
    sync_bn: bool = False
    """Synchronize the batch norms of student and adapters over all processes."""
    val_every: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    network: BodyOptions = field(default_factory=BodyOptions)
    teacher: DetectorTeacherOptions = field(default_factory=DetectorTeacherOptions)
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    optim: DetectOptimizer = field(default_factory=DetectOptimizer)

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """The body's network, as far as ``--backbone-weights`` tells it."""
        return {} if said.get("evaluate") else told_by_body(said)

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The complete settings for a user's data, or for the embedded scenes."""
        embedded = not said.get("data")
        arch = None if said.get("student_weights") else said.get("arch", "resnet18")
        matched = said.get("teacher") is not None
        weighing = said.get("mgd_weighing", usual_weighing(said) if matched else "none")
        strengths = {**STRENGTHS, "published": 2e-8, "start": 3.0}  # 30 loses small objects
        width = said.get("width", 0.25 if embedded else 1.0)
        stem, stride = said.get("stem", "imagenet"), said.get("stem_stride", 1)
        optim = EMBEDDED_OPTIM if embedded else DetectOptimizer()
        if said.get("optimizer") == "sgd":
            optim = replace(optim, optimizer="sgd", lr=0.01)
        return cls(
            data=said.get("data", ()),
            out=run_directory(said, arch, "detect-"),
            network=BodyOptions(arch, width, stem, stride) if arch else BodyOptions(),
            teacher=DetectorTeacherOptions(said.get("teacher")),
            mgd=MGDOptions(
                mgd_weighing=weighing,
                mgd_strength=strengths[weighing],
                mgd_mode=usual_mode(said.get("mgd_reducer", "amp")),
                mgd_adapter="group",
                mgd_update_images=1000 * int(said.get("batch_size", optim.batch_size)),
            ),
            optim=optim,
            loader=LoaderOptions(),
            detector=_detector(said, embedded),
        )

    @property
    def place(self) -> Path | None:
        """DATA; None for the embedded scenes."""
        return self.data[0] if self.data else None

    @property
    def trains_heads(self) -> bool:
        """Whether a whole detector is trained, and not its backbone alone."""
        return not self.unlabeled or self.teacher_boxes is not None

    def check(self) -> None:
        """Refuse values out of range and options that exclude each other."""
        super().check()
        if len(self.data) > 1:
            raise ValueError(
                f"data: got {named(self.data)}, expected one place: detect reads the annotations "
                "of one data set; merge them into one folder with one file of annotations"
            )
        teacher, score = self.teacher.teacher, self.teacher_boxes
        if (self.unlabeled or score is not None) and not teacher and not self.evaluate:
            raise ValueError(
                "got --unlabeled or --teacher-boxes without a teacher, expected --teacher"
            )
        if teacher and not self.mgd.is_matched and not self.evaluate:
            raise ValueError(
                "mgd_weighing: got none with a teacher, expected published, mean or start: a "
                "detector's teacher is always matched"
            )
        if score is not None and not 0 < score < 1:
            raise ValueError(f"teacher_boxes: got {score}, expected a score between 0 and 1")
        if self.evaluate and not self.student_weights:
            raise ValueError(
                "got --evaluate without --student-weights, expected --student-weights CHECKPOINT"
            )
        if self.student_weights and self.backbone_weights:
            raise ValueError("got --student-weights and --backbone-weights, expected one of them")
        require_least(self, val_every=1)
        require_least(self.optim, batch_size=1, warmup_steps=0)
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels: got {self.levels}, expected one or more, each once")

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return RULES


EMBEDDED_OPTIM = DetectOptimizer(warmup_steps=50)


def _detector(said: Mapping[str, Any], embedded: bool) -> DetectorOptions:
    if said.get("student_weights"):  # the file says what it holds
        return DetectorOptions(*[None] * len(fields(DetectorOptions)))
    norm: Literal["batch", "frozen"] = "frozen" if said.get("backbone_weights") else "batch"
    if embedded:
        return DetectorOptions(64, 2, 16.0, 128, 213, norm)
    return DetectorOptions(norm=norm)


def _has_teacher(config: Any) -> bool:
    return config.teacher.teacher is not None


NORMALIZATION = "torchvision's detectors have ImageNet's normalization"
# Options that --evaluate does not use; autocast would make torchvision's boxes half precision.
OF_TRAINING = [
    *(f"optim.{f.name}" for f in fields(DetectOptimizer) if f.name != "batch_size"),
    *("mgd.*", "loader.limit", "loader.bad_images", "loader.shuffle_blocks"),
    *("backbone_weights", "levels", "resume", "print_freq", "save_every", "sync_bn"),
    *("val_every", "unlabeled", "teacher_boxes"),
    *("device.precision", "device.channels_last", "device.compile"),
]
RULES = [
    Needs(OF_TRAINING, lambda c: not c.evaluate, "with --evaluate", "train without --evaluate"),
    Needs(["loader.size"], never, "in detect", "give --min-size and --max-size"),
    Needs(["loader.mean", "loader.std"], never, "in detect", NORMALIZATION),
    Needs(["network.taps", "teacher.teacher_taps"], never, "in detect", "give --levels"),
    Needs(["teacher.teacher_size"], never, "in detect", "give --min-size and --max-size"),
    Needs(
        ["val_every"],
        lambda c: c.trains_heads,
        "with --unlabeled",
        "add --teacher-boxes",
    ),
    Needs(["optim.accumulate"], never, "in detect", "give a smaller --batch-size"),
    Needs(["optim.warmup_epochs"], never, "in detect", "give --warmup-steps"),
    Needs(["levels", "teacher_caffe"], _has_teacher, "without a teacher", "name one: --teacher"),
    *shared_rules("without a teacher", "name one: --teacher"),
]
