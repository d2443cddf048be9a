"""Find a network in a file: where its weights are, of which network they are, and what it takes.

Networks that keep their own names (ResNets, MobileNet v2, ShuffleNet v2 and whatever the user or
the file names) are found by these; the files of other families by theirs, see
`mgd_ssl.models.families`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd_ssl.images import Rgb
from mgd_ssl.models.backbones import TORCHVISION, backbone_shapes, is_known
from mgd_ssl.models.families import ANCHORS as FAMILY_ANCHORS
from mgd_ssl.models.families import Family, Remapped, know, recognize
from mgd_ssl.models.file_entries import FileEntries
from mgd_ssl.models.filling import COUNT, check_tensors
from mgd_ssl.models.guessing import ANCHORS, RESNET, guess_spec
from mgd_ssl.models.known_networks import names_of
from mgd_ssl.models.layouts import Place, find_places, full_places, read_place, state_dicts
from mgd_ssl.models.other_files import is_detector, what_instead
from mgd_ssl.models.refusals import nothing_found
from mgd_ssl.models.specs import BackboneSpec
from mgd_ssl.models.timm_networks import is_timm, usual_normalization
from mgd_ssl.models.torchvision_networks import CLASSIFIERS
from mgd_ssl.models.weights import find_checkpoint, read_weights

HEAD_KEY = re.compile(
    r"^(fc|classifier|head|head_dist|projection_head|projector|prototypes|predictor)\."
)


@dataclass(frozen=True)
class FoundBackbone:
    """A backbone's weights in a file, and what it takes to build it.

    Attributes:
        path: the file.
        entries: what the file says of the network.
        place: where the weights are.
        content: of the file.
        spec: of the network.
        read: the weights by the network's names.
        family: the layout that they are from; None where the file has the network's own names.
        others: places that fit too.
    """

    path: Path
    entries: FileEntries
    place: Place
    content: Mapping[str, Any] = field(repr=False)
    spec: BackboneSpec
    read: Remapped = field(repr=False)
    family: Family | None = None
    others: tuple[Place, ...] = ()

    @property
    def state(self) -> dict[str, Any]:
        """Everything under the place, by the network's names."""
        return self.read.state

    @property
    def normalization(self) -> tuple[Rgb, Rgb]:
        """Mean and deviation: what the file says, its family's, its network's, or ImageNet's."""
        if "normalisation" in self.entries.said:
            return self.entries.normalization()
        family = self.family.normalization_of(self.path) if self.family else None
        return family or self.usual_normalization or self.entries.normalization()

    @cached_property
    def usual_normalization(self) -> tuple[Rgb, Rgb] | None:
        """That of all weights which are published of its network, where a file says none.

        Files that describe their network are this project's, whose students take ImageNet's.
        """
        if self.entries.said.keys() & {"normalisation", "backbone"}:
            return None
        if self.spec.arch in TORCHVISION:
            return None
        if self.family and names_of(self.read.shapes) != [self.spec.arch]:
            return None  # a layout that networks share
        return usual_normalization(self.spec.arch)

    @property
    def shows_stem(self) -> bool:
        """Whether the file tells the stem, in words or by the shape of a ResNet's."""
        return "backbone" in self.entries.said or RESNET in self.state

    @cached_property
    def fits(self) -> bool:
        """Whether every entry of the network is there, of its shape."""
        wanted = backbone_shapes(self.spec).items()
        found = {k: getattr(v, "shape", None) for k, v in self.state.items()}
        return all(found.get(k) == shape for k, shape in wanted if not k.endswith(COUNT))

    @property
    def is_alone(self) -> bool:
        """Whether nothing stands beside the network but a head."""
        known, state = backbone_shapes(self.spec), self.state
        return all(k in known or k.endswith(COUNT) or HEAD_KEY.match(k) for k in state)


def find_backbone(path: Path, given: Mapping[str, Any]) -> FoundBackbone:
    """Find a backbone in a file without building it.

    Args:
        path: see `load_backbone`.
        given: arch, width, stem and stem_stride where the user says them, else None.

    Raises:
        ValueError: see `load_backbone`.
    """
    content, metadata = read_weights(path)
    entries = FileEntries.of(find_checkpoint(path), content, metadata)
    _refuse_other_body(entries, given["arch"])
    own = entries.spec(given["arch"])
    arch = given["arch"] or (own.arch if own else _known(entries.arch()))
    if arch:
        arch = _of_library(arch, content)
        own, given = replace(own, arch=arch) if own else None, {**given, "arch": arch}
    candidates: list[FoundBackbone] = []
    refusals: list[ValueError] = []
    readers = [_by_own_names(entries, content, arch, own)]
    readers += [] if own else [_by_families(entries, content, arch)]
    readers += [] if arch else [_by_index(entries, content)]
    for reader in readers:
        if any(c.fits and c.is_alone for c in candidates):
            break
        for found in reader:
            try:
                candidates.append(_as_given(found, given))
            except ValueError as error:
                refusals.append(error)
    fitting = sorted((c for c in candidates if c.fits), key=lambda c: not c.is_alone)
    if fitting:
        _refuse_windows(fitting[0])
        return replace(fitting[0], others=tuple(c.place for c in fitting[1:]))
    nearest = sorted(candidates, key=lambda c: c.family is None)
    if nearest:
        return nearest[0]
    raise refusals[0] if refusals else nothing_found(entries, content, arch)


def _refuse_windows(found: FoundBackbone) -> None:
    """A transformer in a detector may attend within windows, which no entry shows."""
    keys = (key for _, state in state_dicts(found.content) for key in state)
    if found.family and found.family.attends and is_detector(keys):
        raise ValueError(
            f"checkpoint: {found.path} holds {what_instead(found.content)}: its body is a "
            "transformer, which may attend within windows there"
        )


def _as_given(found: FoundBackbone | ValueError, given: Mapping[str, Any]) -> FoundBackbone:
    """A candidate of the width, stem and architecture that the user says."""
    if isinstance(found, ValueError):
        raise found
    said = {k: v for k, v in given.items() if v is not None}
    spec = replace(found.spec, **said)
    if said.get("stem_stride", 1) != 1 and spec.stem == "imagenet":
        raise ValueError(
            f"checkpoint: {found.path}: got a stem of stride {spec.stem_stride}, but its stem is "
            "the plain one, whose stride is fixed; leave --stem-stride or --teacher-stem-stride out"
        )
    return replace(found, spec=spec)


def _by_own_names(
    entries: FileEntries, content: Mapping[str, Any], arch: str | None, own: BackboneSpec | None
) -> Iterator[FoundBackbone | ValueError]:
    """Candidates whose entries have the names of the network; refusals among them."""
    for place in _places(content, own or (BackboneSpec(arch) if arch else None)):
        state = read_place(content, place)
        try:
            spec = own or guess_spec(entries.path, state, arch)
            yield FoundBackbone(entries.path, entries, place, content, spec, Remapped(state))
        except ValueError as error:
            yield error


def _by_families(
    entries: FileEntries, content: Mapping[str, Any], arch: str | None
) -> Iterator[FoundBackbone | ValueError]:
    """Candidates that a family recognizes; refusals among them."""
    path = entries.path
    for place in find_places(content, FAMILY_ANCHORS):
        state = read_place(content, place)
        family = recognize(state)
        if family is None:
            continue
        try:
            check_tensors(path, {k: v for k, v in state.items() if isinstance(v, Tensor)}, state)
            known = know(family, state, arch, path)
            yield FoundBackbone(path, entries, place, content, known.spec, known.read, family)
        except ValueError as error:
            said = str(error).removeprefix(f"checkpoint: {path}, ")
            yield ValueError(f"checkpoint: {path}, {family.name} layout, {said}")


def _by_index(
    entries: FileEntries, content: Mapping[str, Any]
) -> Iterator[FoundBackbone | ValueError]:
    """Candidates whose names and shapes are those of one network of a library."""
    for place in full_places(content):
        state = read_place(content, place)
        shapes = {k: tuple(v.shape) for k, v in state.items() if isinstance(v, Tensor)}
        names = names_of(shapes)
        if len({name.removeprefix("timm/") for name in names}) > 1:
            yield ValueError(
                f"checkpoint: {entries.path}: its keys are those of {' and '.join(names)}, which "
                "compute different features from the same weights; say which one it is: "
                f"--teacher-arch {names[-1]}, or --arch for a student or an evaluator"
            )
        elif names:
            read = Remapped(state)
            yield FoundBackbone(entries.path, entries, place, content, BackboneSpec(names[0]), read)


def _of_library(arch: str, content: Mapping[str, Any]) -> str:
    """A name that torchvision and timm have for networks of their own: whose entries these are."""
    if arch in TORCHVISION or arch not in CLASSIFIERS or not is_timm(arch):
        return arch
    names = (arch, f"timm/{arch}")
    most = [max(_count(BackboneSpec(name), content).values(), default=0) for name in names]
    return names[most[1] > most[0]]


def _count(spec: BackboneSpec, content: Mapping[str, Any]) -> dict[Place, int]:
    """How many of a network's entries a file has, and where."""
    wanted = [k for k in backbone_shapes(spec) if not k.endswith(COUNT)]
    return find_places(content, wanted)


def _places(content: Mapping[str, Any], spec: BackboneSpec | None) -> list[Place]:
    """Where all names of a network are; else where most are; with no name, where any known is."""
    if spec is None:
        return list(find_places(content, ANCHORS))
    counts = _count(spec, content)
    most = max(counts.values(), default=0)
    return [place for place, count in counts.items() if count == most]


def _known(arch: str | None) -> str | None:
    """A file's name of its network, where it is one: others' files have names of their own."""
    return arch if arch and is_known(arch) else None


def _refuse_other_body(entries: FileEntries, arch: str | None) -> None:
    """A detector's body may compute otherwise than torchvision's network of the same keys."""
    detector = entries.described("detector", arch) or {}
    moved_stride = any(detector.get(k, False) is not False for k in ("stride_in_1x1", "caffe"))
    if moved_stride or detector.get("norm_eps", 1e-5) != 1e-5:
        raise ValueError(
            f"checkpoint: {entries.path} is a detector whose body has its stride in the 1×1 "
            "convolutions, or norms of another epsilon, expected torchvision's; use it as a "
            "detector, or train one without --teacher-caffe and Detectron2's MSRA weights"
        )
