"""Command-line options: frozen dataclasses that several commands share, and their parser."""

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
import yaml
from tyro.conf import OmitArgPrefixes, Positional, arg

from mgd_ssl.data import IMAGENET_MEAN, IMAGENET_STD

T = TypeVar("T")
Stem = Literal["imagenet", "small"]
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class NetworkOptions:
    """The student (or the network to train)."""

    arch: Annotated[str | None, arg(aliases=["-a"])] = None
    """torchvision or timm name, or MODULE:FUNCTION. [resnet18]"""
    width: float | None = None
    """Factor on every channel count. [1; 0.125 on the embedded data]"""
    stem: Stem | None = None
    """small: 3×3 first convolution, no max-pool. [imagenet; small on the embedded data]"""
    stem_stride: Literal[1, 2] | None = None
    """Stride of the small stem. [1; 2 on the embedded data]"""
    taps: tuple[str, ...] = ()
    """Where features are read: NAME=module.path, one a stage. [found]"""

    @property
    def spec(self) -> dict[str, Any]:
        """What builds the network; None, before a default fills it, is what was not said."""
        return {k: getattr(self, k) for k in ("arch", "width", "stem", "stem_stride")}


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
    teacher_taps: tuple[str, ...] = ()
    """[found]"""

    @property
    def spec(self) -> dict[str, Any]:
        """What was said of the network; None leaves it to the checkpoint."""
        names = ("arch", "width", "stem", "stem_stride")
        return {name: getattr(self, f"teacher_{name}") for name in names}


@dataclass(frozen=True)
class LoaderOptions:
    """Images and their decoding."""

    size: int | None = None
    """Side of the images that the network sees, in pixels. [224; 32 on the embedded data]"""
    canvas: int | None = None
    """Side that images are decoded to, from which crops are cut. [size × 256/224; size below 96]"""
    limit: int | None = None
    """Train on a fixed random choice of this many images. [all]"""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Decoding processes; data that is in memory needs none and gets none."""
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
        for name in ("size", "canvas", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1")
        if self.workers < 0:
            raise ValueError(f"workers: got {self.workers}, expected 0 or more")


@dataclass(frozen=True)
class DeviceOptions:
    """Devices, processes and precision."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a GPU where there is one."""
    devices: int = 1
    """Processes on this machine, one a device; torchrun and SLURM set their own."""
    strategy: Literal["auto", "ddp", "dp"] = "auto"
    """How several devices share a step: ddp a process each, dp one process (classify alone)."""
    num_nodes: int = 1
    """Machines."""
    precision: Literal["32", "bf16", "fp16"] = "32"
    """Of the networks; losses and matching are float32 or better."""
    channels_last: bool = False
    """Keep images in NHWC order in memory."""
    compile: bool = False
    """Compile the networks' blocks with torch.compile, those aside that taps stand in."""


Data = Positional[Path | None]


def parse(config: type[T], prog: str, argv: Sequence[str] | None = None) -> T:
    """Read a command line; ``--config FILE`` gives the defaults from a run's config.yaml.

    Unknown options end the program with the nearest known one named.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    default = None
    if "--config" in args:
        place = args.index("--config")
        if place + 1 >= len(args):
            raise ValueError("config: no file given, expected --config FILE")
        default = from_dict(config, _read_yaml(Path(args[place + 1])))
        del args[place : place + 2]
    doc = (config.__doc__ or "").strip()
    parsed: T = tyro.cli(  # type: ignore[assignment]
        config,
        prog=prog,
        description=doc,
        args=args,
        default=default,
        config=(OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
    )
    return parsed


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"config: got {path}, which is no file; expected a run's config.yaml")
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise ValueError(f"config: {path} holds no mapping, expected a run's config.yaml")
    return content


def to_dict(config: Any) -> dict[str, Any]:
    """A nested dataclass as plain values that YAML and checkpoints hold."""
    return {k: _plain(v) for k, v in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(config: type[T], content: Mapping[str, Any]) -> T:
    """Counterpart of `to_dict`.

    Raises:
        ValueError: an entry that the dataclass does not have.
    """
    hints = typing.get_type_hints(config)
    unknown = [k for k in content if k not in hints]
    if unknown:
        raise ValueError(
            f"config: unknown entry {unknown[0]!r}, expected some of {', '.join(hints)}"
        )
    return config(**{k: _typed(hints[k], v) for k, v in content.items()})


def _typed(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if isinstance(value, list):
        return tuple(value)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return Path(value) if isinstance(value, str) and Path in options else value
