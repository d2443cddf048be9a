"""What a file says of its network beside the weights, checked: it is data, and names no code."""

import json
import math
import re
import reprlib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD, Rgb
from mgd_ssl.models.specs import BackboneSpec, Option, check_option

T = TypeVar("T")
NAMES = ("arch", "backbone", "normalisation", "size", "classes", "detector", "provenance")
LARGEST_SIZE = 1 << 14
NETWORK_NAME = re.compile(r"(timm/)?[\w.-]+")
WORDS = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Normalization:
    """Per channel, of images in [0,1]."""

    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD


@dataclass(frozen=True)
class FileEntries:
    """What a file says of its network, as it stands there; each reader checks its entry.

    Attributes:
        path: the file.
        said: entry -> value, those of `NAMES` that the file has.
    """

    path: Path
    said: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any], metadata: Mapping[str, str]) -> Any:
        """The entries of a checkpoint, or of safetensors' metadata.

        Raises:
            ValueError: metadata is no JSON.
        """
        said = {k: _parsed(path, k, metadata[k]) for k in NAMES if k in metadata}
        said |= {k: content[k] for k in NAMES if k in content}
        return cls(path, {k: v for k, v in said.items() if not _is_state(v)})

    def spec(self, arch: str | None = None) -> BackboneSpec | None:
        """This project's description of the backbone; None where the file has none.

        Args:
            arch: what the user says the network is; it stands in place of what the file says.
        """
        return self._network("backbone", BackboneSpec, arch)

    def detector(self, kind: type[T], arch: str | None = None) -> T | None:
        """The description of a detector, a dataclass; None where the file has none."""
        return self._network("detector", kind, arch)

    def described(self, entry: str, arch: str | None = None) -> Mapping[str, Any] | None:
        """What the file says of a network; None where it says nothing. Only ``arch`` is checked.

        Args:
            entry: of the file.
            arch: what the user says the network is; it stands in place of what the file says.

        Raises:
            ValueError: it is no mapping, or its ``arch`` is missing or not the name of a network.
        """
        said = self.said.get(entry)
        if said is None:
            return None
        if not isinstance(said, Mapping):
            refuse(self.path, entry, said, "a mapping of arch and the network's other properties")
        if "arch" not in said:
            refuse(self.path, entry, said, "an entry arch in it")
        if arch is not None:
            return {**said, "arch": arch}
        name = f"{entry}.arch"
        self._require_name(name, read_value(str, said["arch"], self.path, name))
        return said

    def _network(self, entry: str, kind: type[T], arch: str | None) -> T | None:
        said = self.described(entry, arch)
        return None if said is None else read_dataclass(kind, said, self.path, entry)

    def arch(self) -> str | None:
        """The name that other projects' files give their network."""
        if self.said.get("arch") is None:
            return None
        return self._require_name("arch", read_value(str, self.said["arch"], self.path, "arch"))

    def _require_name(self, entry: str, arch: str) -> str:
        if ":" in arch:
            raise ValueError(
                f"checkpoint: {self.path}, {entry}: got {shown(arch)}, which names code or an "
                "address, expected the name of a network of torchvision or timm; what a file names "
                "is not run. Where you trust it, name it yourself: --arch MODULE:FUNCTION, for a "
                "teacher --teacher-arch MODULE:FUNCTION, in Python arch='MODULE:FUNCTION'"
            )
        if not NETWORK_NAME.fullmatch(arch):
            refuse(self.path, entry, arch, "the name of a network of torchvision or timm")
        return arch

    def normalization(self) -> tuple[Rgb, Rgb]:
        """Mean and standard deviation; ImageNet's where the file has none."""
        entry, said = "normalisation", self.said.get("normalisation")
        if said is None:
            return IMAGENET_MEAN, IMAGENET_STD
        if isinstance(said, Mapping) and said.keys() != {"mean", "std"}:
            refuse(self.path, entry, said, "its entries mean and std")
        found = read_dataclass(Normalization, said, self.path, entry)
        if min(found.std) <= 0:
            refuse(self.path, f"{entry}.std", found.std, "three numbers above 0")
        return found.mean, found.std

    def size(self) -> int | None:
        """Side in pixels of the images that the network was trained on."""
        if self.said.get("size") is None:
            return None
        size: int = read_value(int, self.said["size"], self.path, "size")
        if not 1 <= size <= LARGEST_SIZE:
            refuse(self.path, "size", size, f"1 to {LARGEST_SIZE} pixels")
        return size

    def provenance(self) -> Mapping[str, Any]:
        """What a run of this project wrote of the weights that its own come from, by their part.

        Empty where an entry of that name is something else.
        """
        said = self.said.get("provenance")
        try:
            plain = json.loads(json.dumps(said, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            return {}
        return plain if isinstance(plain, dict) else {}

    def classes(self, count: int) -> tuple[str, ...] | None:
        """Names of a network's ``count`` outputs; None where the file has none."""
        if self.said.get("classes") in (None, [], ()):
            return None
        said, hint = self.said["classes"], tuple[str, ...]
        names: tuple[str, ...] = read_value(hint, said, self.path, "classes")
        if len(names) != count:
            refuse(self.path, "classes", names, f"a name for each of the {count} outputs")
        return names


def _is_state(value: Any) -> bool:
    """Whether an entry holds weights rather than words, as ``backbone`` does in other projects."""
    return isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())


def _parsed(path: Path, entry: str, text: str) -> Any:
    if entry == "arch":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"checkpoint: {path}, metadata {entry}: got {shown(text)}, expected JSON: {error}; "
            "correct the entry, or take it out of the file"
        ) from error


def read_dataclass(kind: type[T], said: Any, path: Path, entry: str) -> T:
    """Build a dataclass from a mapping, each value of its field's type.

    Raises:
        ValueError: no mapping, a key that the dataclass lacks or needs, a value of another type,
            or one that the dataclass refuses.
    """
    hints = get_type_hints(kind)
    names = ", ".join(hints)
    if not isinstance(said, Mapping):
        refuse(path, entry, said, f"a mapping of {names}")
    for name in (k for k in said if k not in hints):
        refuse(path, entry, f"the unknown entry {shown(name)}", f"some of {names}", quote=False)
    needed = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
    for name in (n for n in needed if n not in said):
        refuse(path, entry, said, f"an entry {name} in it")
    values = {k: read_value(hints[k], v, path, f"{entry}.{k}") for k, v in said.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"checkpoint: {path}, {entry}.{error}") from error


def read_value(hint: Any, value: Any, path: Path, entry: str) -> Any:
    """A value as its annotation says it: numbers are no text, flags are no numbers.

    Raises:
        ValueError: it is of another type, or no finite number.
    """
    origin, options = get_origin(hint), get_args(hint)
    if origin is Mapping:
        return _read_options(value, path, entry)
    if origin is tuple:
        return _read_tuple(options, value, path, entry)
    if origin is Literal:
        if not any(type(value) is type(option) and value == option for option in options):
            refuse(path, entry, value, f"one of {', '.join(map(str, options))}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number and math.isfinite(value):
        return value
    if (
        hint is float
        or not isinstance(value, hint)
        or isinstance(value, bool) is not (hint is bool)
    ):
        refuse(path, entry, value, WORDS[hint])
    return value


def _read_options(value: Any, path: Path, entry: str) -> dict[str, Option]:
    """Arguments of a timm network; those alone that a description may set."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        refuse(path, entry, value, "a mapping of a timm network's arguments")
    try:
        return {name: check_option(name, v) for name, v in value.items()}
    except ValueError as error:
        raise ValueError(f"checkpoint: {path}, {entry}.{error}") from error


def _read_tuple(items: tuple[Any, ...], value: Any, path: Path, entry: str) -> tuple[Any, ...]:
    item = items[0]
    length = None if items[-1] is Ellipsis else len(items)
    if not isinstance(value, list | tuple) or length not in (None, len(value)):
        refuse(path, entry, value, f"a list of {length or 'values'}, each {WORDS[item]}")
    return tuple(read_value(item, v, path, f"{entry}[{i}]") for i, v in enumerate(value))


def refuse(path: Path, entry: str, got: Any, expected: str, *, quote: bool = True) -> NoReturn:
    """Say which entry of which file is wrong."""
    said = f"{shown(got)} ({_kind(got)})" if quote else got
    raise ValueError(
        f"checkpoint: {path}, {entry}: got {said}, expected {expected}; correct the entry, or take "
        "it out of the file"
    )


def _kind(value: Any) -> str:
    kinds = {str: "text", bool: "a flag", types.NoneType: "nothing"}
    return kinds.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value of a file in a message: on one line, and short."""
    return reprlib.repr(value).replace("\n", " ")
