"""Options that several commands share: frozen dataclasses, a section of the settings each."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.ranges import require_least

Stem = Literal["imagenet", "small"]
Rgb = tuple[float, float, float]
Data = Positional[Path | None]
PILLOWS_LIMIT = 89_478_485  # pixels of an image that Pillow decodes without asking


def one_of(names: Collection[str]) -> PrimitiveConstructorSpec[str]:
    """An option whose value is a name of a registry."""

    def read(words: list[str]) -> str:
        if words[0] not in names:
            raise ValueError(f"got {words[0]}, expected one of {', '.join(names)}")
        return words[0]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(names)}}}",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
        choices=tuple(names),
    )


def _tap(words: list[str]) -> str:
    if "=" not in words[0]:
        raise ValueError(f"got {words[0]}, expected NAME=module.path")
    return words[0]


Tap = Annotated[
    str,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME=MODULE",
        instance_from_str=_tap,
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    ),
]


@dataclass(frozen=True)
class BackboneOptions:
    """The network; None leaves it to the file that holds its weights."""

    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """torchvision or timm name, or MODULE:FUNCTION."""
    width: float | None = None
    """Factor on every channel count."""
    stem: Stem | None = None
    """small: 3×3 first convolution, no max-pool."""
    stem_stride: Literal[1, 2] | None = None
    """Stride of the small stem."""

    @property
    def spec(self) -> dict[str, Any]:
        """Arguments of `create_backbone`; None leaves one to the weights' file."""
        return {name: getattr(self, name) for name in ("arch", "width", "stem", "stem_stride")}


@dataclass(frozen=True)
class NetworkOptions(BackboneOptions):
    """The student, or the network to train; None leaves it to the file of its weights."""

    taps: tuple[Tap, ...] = ()
    """Layers to match, one a stage; found automatically unless given."""


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher; None leaves it to the teacher's file."""

    teacher: Path | None = None
    """Checkpoint: MoCo, DINO, SwAV, torchvision, timm, safetensors or a run of this project; or the
    name of published weights, as resnet50 or timm/resnet50.a1_in1k."""
    teacher_arch: str | None = None
    """torchvision or timm name, or MODULE:FUNCTION."""
    teacher_width: float | None = None
    """Factor on every channel count."""
    teacher_stem: Stem | None = None
    """small: 3×3 first convolution, no max-pool."""
    teacher_stem_stride: Literal[1, 2] | None = None
    """Stride of the small stem."""
    teacher_size: int = 0
    """Side of the images that the teacher is given, in pixels: each view is resized for it. 0: as
    the student's."""
    teacher_taps: tuple[Tap, ...] = ()
    """Layers to match, one a stage; found automatically unless given."""

    @property
    def spec(self) -> dict[str, Any]:
        """Arguments of `load_backbone`; None leaves one to the checkpoint."""
        names = ("arch", "width", "stem", "stem_stride")
        return {name: getattr(self, f"teacher_{name}") for name in names}


@dataclass(frozen=True)
class FolderOptions:
    """Which images of DATA are read."""

    train_folder: str | None = None
    """Folder in DATA of the training images; . for all of DATA. None: found by its name."""
    val_folder: str | None = None
    """Folder in DATA of the validation images. None: found by its name."""
    max_pixels: int = PILLOWS_LIMIT
    """Largest image that is decoded, width times height."""

    @property
    def opening(self) -> dict[str, Any]:
        """Arguments of `open_source`."""
        names = (f.name for f in dataclasses.fields(FolderOptions))
        return {name: getattr(self, name) for name in names}

    def __post_init__(self) -> None:
        require_least(self, max_pixels=1)


@dataclass(frozen=True)
class LoaderOptions(FolderOptions):
    """Images and their decoding."""

    size: int = 224
    """Side of the images that the network sees, in pixels."""
    limit: int | None = None
    """Train on a fixed random choice of this many images. None: on all."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Decoding processes of each process, at most its cores; data in memory needs and gets none."""
    bad_images: float = 0.01
    """Share of undecodable images past which the run stops."""
    exif: bool = True
    """Turn images as their EXIF orientation says; --no-exif takes them as they are stored, as
    torchvision does."""
    mean: Rgb = IMAGENET_MEAN
    """Normalization of the network, per channel of [0,1] images."""
    std: Rgb = IMAGENET_STD
    """Normalization of the network, per channel."""

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation as plain values."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, size=0, limit=1, workers=0)


@dataclass(frozen=True)
class ComputeOptions:
    """Device and precision."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes CUDA where there is some, else the CPU; mps is refused, for it has no float64."""
    threads: int | None = None
    """Threads of each process. None: what OMP_NUM_THREADS says, else the cores that the process may
    use, shared among the processes on this machine."""
    precision: Literal["32", "bf16", "fp16"] = "32"
    """Of the networks; losses and matching are float32 or better."""
    channels_last: bool = False
    """Keep images in NHWC order in memory."""
    compile: bool = False
    """torch.compile every block that no tap reads from."""


@dataclass(frozen=True)
class DeviceOptions(ComputeOptions):
    """Devices, processes and precision."""

    devices: int = 1
    """Processes on this machine, one a device; torchrun and SLURM set their own."""
    num_nodes: int = 1
    """Machines."""


def to_dict(config: Any) -> dict[str, Any]:
    """A nested dataclass as plain values that YAML and checkpoints hold."""
    return {k: _plain(v) for k, v in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
