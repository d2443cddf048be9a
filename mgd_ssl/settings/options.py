"""Command-line options: frozen dataclasses that several commands share, and their parser."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.settings.config_file import checked, read_config, require_own_words, withhold
from mgd_ssl.settings.words import lists_last, require_text, take_config

T = TypeVar("T")
Stem = Literal["imagenet", "small"]
Rgb = tuple[float, float, float]


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
    """The network."""

    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """torchvision or timm name, or MODULE:FUNCTION. [resnet18]"""
    width: float | None = None
    """Factor on every channel count. [1; 0.125 on the embedded data]"""
    stem: Stem | None = None
    """small: 3×3 first convolution, no max-pool. [imagenet; small on the embedded data]"""
    stem_stride: Literal[1, 2] | None = None
    """Stride of the small stem. [1; 2 on the embedded data]"""

    @property
    def spec(self) -> dict[str, Any]:
        """What builds the network; None, before a default fills it, is what was not said."""
        return {k: getattr(self, k) for k in ("arch", "width", "stem", "stem_stride")}


@dataclass(frozen=True)
class NetworkOptions(BackboneOptions):
    """The student (or the network to train)."""

    taps: tuple[Tap, ...] = ()
    """Where features are read: NAME=module.path, one a stage. [found]"""


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher."""

    teacher: Path | None = None
    """Checkpoint: MoCo, DINO, SwAV, torchvision, timm, safetensors or a run of this project; or the
    name of published weights, as resnet50 or timm/resnet50.a1_in1k."""
    teacher_arch: str | None = None
    """[as the checkpoint shows]"""
    teacher_width: float | None = None
    """[as the checkpoint shows]"""
    teacher_stem: Stem | None = None
    """[as the checkpoint shows]"""
    teacher_stem_stride: Literal[1, 2] | None = None
    """[as the checkpoint says, else 1]"""
    teacher_taps: tuple[Tap, ...] = ()
    """[found]"""

    @property
    def spec(self) -> dict[str, Any]:
        """What was said of the network; None leaves it to the checkpoint."""
        names = ("arch", "width", "stem", "stem_stride")
        return {name: getattr(self, f"teacher_{name}") for name in names}


@dataclass(frozen=True)
class FolderOptions:
    """Which images of DATA are read."""

    train_folder: str | None = None
    """Folder in DATA of the training images; . for all of DATA. [told by its name]"""
    val_folder: str | None = None
    """Folder in DATA of the validation images. [told by its name]"""
    max_pixels: int | None = None
    """Largest image that is decoded, width times height. [89478485, Pillow's limit]"""

    @property
    def opening(self) -> dict[str, Any]:
        """What `open_source` is told."""
        names = (f.name for f in dataclasses.fields(FolderOptions))
        return {name: getattr(self, name) for name in names}

    def __post_init__(self) -> None:
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ValueError(f"max_pixels: got {self.max_pixels}, expected at least 1")


@dataclass(frozen=True)
class LoaderOptions(FolderOptions):
    """Images and their decoding."""

    size: int | None = None
    """Side of the images that the network sees, in pixels. [224; 32 on the embedded data]"""
    limit: int | None = None
    """Train on a fixed random choice of this many images. [all]"""
    workers: Annotated[int | None, arg(aliases=["-j"])] = None
    """Decoding processes of each process, at most its cores; data that is in memory needs none and
    gets none. [8, or as many as there are cores]"""
    bad_images: float = 0.01
    """Share of undecodable images past which the run stops."""
    exif: bool = True
    """Turn images as their EXIF orientation says; --no-exif takes them as they are stored, as
    torchvision does."""
    mean: Rgb = IMAGENET_MEAN
    """Normalisation of the network, per channel of [0,1] images."""
    std: Rgb = IMAGENET_STD
    """Normalisation of the network, per channel."""

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation as plain values."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers: got {self.workers}, expected 0 or more")


@dataclass(frozen=True)
class ComputeOptions:
    """Device and precision."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes CUDA where there is some, else the CPU; mps is refused, for it has no float64."""
    threads: int | None = None
    """Threads of each process. [what OMP_NUM_THREADS says, else the cores that the process may
    use, shared among the processes on this machine]"""
    precision: Literal["32", "bf16", "fp16"] = "32"
    """Of the networks; losses and matching are float32 or better."""
    channels_last: bool = False
    """Keep images in NHWC order in memory."""
    compile: bool = False
    """Compile the networks' blocks with torch.compile, those aside that taps stand in."""


@dataclass(frozen=True)
class DeviceOptions(ComputeOptions):
    """Devices, processes and precision."""

    devices: int = 1
    """Processes on this machine, one a device; torchrun and SLURM set their own."""
    strategy: Literal["auto", "ddp", "dp"] = "auto"
    """How several devices share a step: ddp a process each, dp one process (classify alone)."""
    num_nodes: int = 1
    """Machines."""


Data = Positional[Path | None]


def parse(config: type[T], prog: str, argv: Sequence[str] | None = None) -> T:
    """Read a command line; ``--config FILE`` gives the defaults from a run's config.yaml.

    Unknown options end the program with the nearest known one named.

    Raises:
        ValueError: the file is refused, a word is empty, a number NaN or infinite.
    """
    args, file = take_config(sys.argv[1:] if argv is None else argv)
    require_text(args)
    default, withheld = withhold(read_config(config, file)) if file else (None, {})
    doc = (config.__doc__ or "").strip()
    parsed: T = tyro.cli(  # type: ignore[assignment]
        config,
        prog=prog,
        description=doc,
        args=lists_last(config, args),
        default=default,
        config=(OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
    )
    require_own_words(parsed, withheld, file)
    return checked(parsed)


def to_dict(config: Any) -> dict[str, Any]:
    """A nested dataclass as plain values that YAML and checkpoints hold."""
    return {k: _plain(v) for k, v in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
