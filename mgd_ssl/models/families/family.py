"""What a family of networks says of its files, and what several families share."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from mgd_ssl.images import Rgb
from mgd_ssl.models.specs import BackboneSpec, Option

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]
HEAD_CHANNELS = 64  # of an attention head, by the convention of ViTs


@dataclass(frozen=True)
class Terms:
    """Under what weights are published; weights that a user trains are the user's.

    Attributes:
        license: its name.
        obligation: what passing the weights on asks for beyond the license's usual notice.
        publisher: whose weights the terms are of, where a file in their layout need not be theirs.
    """

    license: str
    obligation: str = ""
    publisher: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values; those that are known."""
        whose = f"weights that {self.publisher} publishes in this layout" if self.publisher else ""
        said = {"license": self.license, "license_of": whose, "obligation": self.obligation}
        return {name: text for name, text in said.items() if text}

    def __str__(self) -> str:
        whose = f", as {self.publisher} publishes it" if self.publisher else ""
        return f"license{whose}: {self.license}" + (f" ({self.obligation})" * bool(self.obligation))


@dataclass(frozen=True)
class Remapped:
    """A file's entries by the names of the network that is built.

    Attributes:
        state: name -> tensor; entries that the family does not know keep their names.
        head: names, in the file, of entries of a head, which is left out.
        aside: names, in the file, of entries that are no weights of the network.
        heads: attention heads, where the file tells them; no shape does.
    """

    state: State
    head: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    heads: int | None = None

    @cached_property
    def shapes(self) -> Shapes:
        """Of the entries, by the network's names."""
        return {key: tuple(value.shape) for key, value in self.state.items()}


class Family(ABC):
    """A layout of files, and the network that it is built as.

    Attributes:
        name: of the layout, in reports.
        anchors: entries by which the family's weights are found in a file: each file has one.
        terms: of the published weights, where they are known.
        normalization: mean and standard deviation per channel of images in [0,1] where they are
            not ImageNet's.
        resizes: whether the network takes images of any multiple of its patch, so that a file
            names no size.
        attends: whether its blocks attend over all patches, which a detector may change.
    """

    name: ClassVar[str]
    anchors: ClassVar[tuple[str, ...]]
    terms: ClassVar[Terms | None] = None
    normalization: ClassVar[tuple[Rgb, Rgb] | None] = None
    resizes: ClassVar[bool] = False
    attends: ClassVar[bool] = True

    @abstractmethod
    def recognizes(self, state: Mapping[str, object]) -> bool:
        """Whether a state dict, by its keys and shapes, is the family's."""

    @abstractmethod
    def remap(self, state: State) -> Remapped:
        """A file's entries by the network's names."""

    @abstractmethod
    def spec(self, read: Remapped, arch: str | None, path: Path) -> BackboneSpec:
        """The network that remapped entries are of.

        Args:
            read: the entries, by the network's names.
            arch: the architecture where the user names it.
            path: of the file, whose name alone may tell what no entry shows.

        Raises:
            ValueError: a shape that no network of the family has.
        """

    def finish(self, network: nn.Module, state: State) -> None:  # noqa: B027
        """Give a loaded network what its state dict does not carry.

        Args:
            network: loaded.
            state: the file's, by the file's names.
        """

    def normalization_of(self, path: Path) -> tuple[Rgb, Rgb] | None:
        """Mean and standard deviation, which published files of one layout may tell by name."""
        return self.normalization

    def terms_of(self, path: Path) -> Terms | None:
        """Terms of published weights, which files of one layout may tell by name."""
        return self.terms

    def remarks(self, spec: BackboneSpec, read: Remapped, path: Path) -> list[str]:
        """What the file's entries do not tell and the family assumes, in words."""
        heads = None if read.heads else dict(spec.options).get("num_heads")
        return [f"{heads} attention heads of {HEAD_CHANNELS} channels assumed"] if heads else []


def fitted(
    arch: str, read: Remapped, measure: Callable[[Shapes], dict[str, Option]]
) -> BackboneSpec:
    """A timm network with the options in which a file's shapes differ from its own.

    Args:
        arch: the network nearest to the file's.
        read: the file's entries, by the network's names.
        measure: reads options off shapes.
    """
    from mgd_ssl.models.backbones import attention_heads, backbone_shapes

    found, base = measure(read.shapes), BackboneSpec(arch)
    try:
        own = measure({k: tuple(v) for k, v in backbone_shapes(base).items()})
    except ValueError:  # of another kind: its entries are held against the file's, and differ
        return base
    options = {name: value for name, value in found.items() if value != own.get(name)}
    heads = read.heads or (_usual_heads(found) if "embed_dim" in options else None)
    if heads and ("embed_dim" in options or heads != attention_heads(arch)):
        options["num_heads"] = heads
    return BackboneSpec(arch, options=options)


def _usual_heads(found: Mapping[str, Option]) -> int:
    width = found["embed_dim"]
    assert isinstance(width, int)
    if width % HEAD_CHANNELS:
        raise ValueError(
            f"got tokens of {width} channels, expected a multiple of {HEAD_CHANNELS}, by which "
            "alone the number of attention heads can be told"
        )
    return width // HEAD_CHANNELS


def shape_of(shapes: Shapes, key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of an entry that must be there.

    Raises:
        ValueError: it is missing, or has another number of dimensions, or one of no extent.
    """
    shape = shapes.get(key)
    if shape is None or len(shape) != dimensions or 0 in shape:
        got = "no such entry" if shape is None else f"the shape {shape}"
        raise ValueError(
            f"{key}: got {got}, expected {dimensions} dimensions; the file is not whole: copy or "
            "download it again"
        )
    return shape


def count_blocks(keys: Iterable[str], prefix: str = "blocks.") -> int:
    """Blocks of a transformer: one more than the largest number after the prefix."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.")
    numbers = [int(m[1]) for m in map(pattern.match, keys) if m]
    return max(numbers, default=-1) + 1


def renamed(state: State, rules: Mapping[str, str]) -> State:
    """Entries under names in which every rule, pattern -> replacement, was applied in order."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules.items()]

    def name(key: str) -> str:
        for pattern, new in compiled:
            key = pattern.sub(new, key)
        return key

    return {name(key): value for key, value in state.items()}


def take(state: State, pattern: str) -> tuple[str, ...]:
    """Take the entries whose whole names match out of a state, and give their names."""
    names = tuple(key for key in state if re.fullmatch(pattern, key))
    for key in names:
        del state[key]
    return names


def is_named(path: Path, word: str) -> bool:
    """Whether a file, or the folder it is in, is called by a word, as published ones are."""
    return any(word in name.lower() for name in (path.name, path.parent.name))
