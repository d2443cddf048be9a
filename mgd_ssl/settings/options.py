"""Options shared by several commands: frozen dataclasses, one per section of the settings."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD, Rgb
from mgd_ssl.ranges import require_least

Stem = Literal["imagenet", "small"]
Precision = Literal["auto", "32", "bf16", "fp16"]
Data = Annotated[Positional[tuple[Path, ...]], arg(metavar="[DATA ...]")]
PILLOWS_LIMIT = 89_478_485  # pixels of an image that Pillow decodes without asking


def places(data: str | Path | Sequence[str | Path] | None) -> tuple[Path, ...]:
    """DATA as settings hold it: one path or several; none for the embedded images."""
    given = () if data is None else (data,) if isinstance(data, str | Path) else data
    return tuple(map(Path, given))


BETWEEN = " + "  # places of images, in words


def named(data: Sequence[str | Path], embedded: str = "embedded sample of Fashion-MNIST") -> str:
    """DATA in words, for results and messages."""
    return BETWEEN.join(map(str, data)) or embedded


def one_of(names: Collection[str]) -> PrimitiveConstructorSpec[str]:
    """An option whose value is a name in a registry."""

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
    """The network. None: as recorded in the file of its weights."""

    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """Architecture: a torchvision or timm name, or MODULE:FUNCTION."""
    width: float | None = None
    """Factor on every channel count."""
    stem: Stem | None = None
    """small: 3×3 first convolution, no max-pool."""
    stem_stride: Literal[1, 2] | None = None
    """Stride of the small stem."""

    @property
    def spec(self) -> dict[str, Any]:
        """Arguments of `create_backbone`. None: as recorded in the file of the weights."""
        return {name: getattr(self, name) for name in ("arch", "width", "stem", "stem_stride")}


@dataclass(frozen=True)
class NetworkOptions(BackboneOptions):
    """The student, or the network to train. None: as recorded in the file of its weights."""

    taps: tuple[Tap, ...] = ()
    """Layers to match, one per stage. Default: found automatically."""


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher. None: as recorded in its file."""

    teacher: Path | None = None
    """A checkpoint file, the directory of a run, or the name of published weights, such as resnet50
    or timm/resnet50.a1_in1k."""
    teacher_arch: str | None = None
    """Architecture: a torchvision or timm name, or MODULE:FUNCTION."""
    teacher_width: float | None = None
    """Factor on every channel count."""
    teacher_stem: Stem | None = None
    """small: 3×3 first convolution, no max-pool."""
    teacher_stem_stride: Literal[1, 2] | None = None
    """Stride of the small stem."""
    teacher_size: int = 0
    """Side of the teacher's views, in pixels. 0: the student's side. Default: 1.5 times that, in a
    teacher cache twice that and at least 128, at most the side that the teacher was trained on."""
    teacher_taps: tuple[Tap, ...] = ()
    """Layers to match, one per stage. Default: found automatically."""

    @property
    def spec(self) -> dict[str, Any]:
        """Arguments of `load_backbone`. None: as recorded in the checkpoint."""
        names = ("arch", "width", "stem", "stem_stride")
        return {name: getattr(self, f"teacher_{name}") for name in names}


@dataclass(frozen=True)
class FolderOptions:
    """Which images of DATA are read."""

    train_folder: str | None = None
    """Folder of the training images in DATA; . for all of DATA. None: found by its name."""
    val_folder: str | None = None
    """Folder of the validation images in DATA. None: found by its name."""
    max_pixels: int = PILLOWS_LIMIT
    """Size limit of images, in pixels (width times height)."""

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
    """Side of the network's input images, in pixels."""
    limit: int | None = None
    """Train on a fixed random subset of this many images. None: all images."""
    shuffle_blocks: int | None = None
    """Shuffle blocks of this many consecutive images, and then the images of 16 blocks at a time,
    for disks that are slow at random reads. For shards: the images of a shard. None: shuffle all
    images."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Decoding processes per process, at most its number of cores; none for data in memory."""
    bad_images: float = 0.01
    """Stop if more than this share of the images cannot be decoded."""
    exif: bool = True
    """Apply the EXIF orientation; --no-exif uses images as stored, as torchvision does."""
    mean: Rgb = IMAGENET_MEAN
    """Mean for normalizing images in [0,1], per channel."""
    std: Rgb = IMAGENET_STD
    """Standard deviation for normalizing images, per channel."""

    @property
    def normalization(self) -> dict[str, list[float]]:
        """Mean and standard deviation as plain values."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, size=0, limit=1, workers=0, shuffle_blocks=1)


@dataclass(frozen=True)
class ComputeOptions:
    """Device and precision."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: CUDA if available, else the CPU. mps is refused because it lacks float64."""
    threads: int | None = None
    """Threads per process. None: OMP_NUM_THREADS if set, else the available cores divided among the
    processes on this machine."""
    precision: Precision = "32"
    """Precision of the networks; losses use float32. auto: bf16 where the device computes in it."""
    channels_last: bool = False
    """Store images in NHWC order in memory; --precision auto does so where it finds bf16."""
    compile: bool = False
    """torch.compile every block that no tap reads from."""


@dataclass(frozen=True)
class DeviceOptions(ComputeOptions):
    """Devices, processes and precision."""

    precision: Precision = "auto"
    """Precision of the networks; losses use float32. auto: bf16 where the device computes in it."""
    devices: int = 1
    """Processes on this machine, one per device; torchrun and SLURM set their own number."""
    num_nodes: int = 1
    """Number of machines."""


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested settings."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def to_dict(config: Any) -> dict[str, Any]:
    """A nested dataclass as plain values for YAML and checkpoints."""
    return {k: _plain(v) for k, v in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
