"""Read backbones from the checkpoints of other projects and of this one.

A file is searched for a state dict, and for the prefix of its keys, whose names fit a network: see
`mgd_ssl.models.layouts`. So MoCo's files, DINO's, SwAV's, solo-learn's, MMSelfSup's, lightly's,
Lightning's, torchvision's and timm's are read, and this project's own, which are MoCo's with more
beside it: the student of a run of pretrain.py is ``module.encoder_q.*``, whatever its method.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mgd_ssl.models.backbones import (
    BackboneSpec,
    backbone_shapes,
    create_backbone,
    create_classifier,
    is_known,
)
from mgd_ssl.models.file_entries import FileEntries, shown
from mgd_ssl.models.filling import COUNT, KeyReport, fill
from mgd_ssl.models.guessing import ANCHORS, RESNET, guess_spec
from mgd_ssl.models.layouts import Place, find_places, read_place, state_dicts
from mgd_ssl.models.weights import find_checkpoint, read_weights

HEAD_KEY = re.compile(r"^(fc|classifier|head|projection_head|projector|prototypes|predictor)\.")
Stem = Literal["imagenet", "small"]


@dataclass(frozen=True)
class FoundBackbone:
    """A backbone's weights in a file, and what it takes to build it.

    Attributes:
        path: the file.
        entries: what the file says of the network.
        place: where the weights are.
        content: of the file.
        spec: of the network.
        others: places that fit too.
    """

    path: Path
    entries: FileEntries
    place: Place
    content: Mapping[str, Any]
    spec: BackboneSpec
    others: tuple[Place, ...] = ()

    @cached_property
    def state(self) -> dict[str, Any]:
        """Everything under the place, by the network's names."""
        return read_place(self.content, self.place)

    @property
    def shows_stem(self) -> bool:
        """Whether the file tells the stem, in words or by the shape of a ResNet's."""
        return "backbone" in self.entries.said or RESNET in self.state

    @property
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


def load_backbone(
    path: str | Path,
    *,
    arch: str | None = None,
    width: float | None = None,
    stem: Stem | None = None,
    stem_stride: Literal[1, 2] | None = None,
) -> tuple[nn.Module, KeyReport]:
    """Build the network that a checkpoint holds and load it, the head left out.

    Args:
        path: the file, the directory of a run, or the name of published weights (see
            `read_weights`); what is not said there is read off the shapes of the tensors.
        arch: overrides the architecture that the file names or that its keys show. It alone may be
            ``module:function``: where a file says so, it is refused.
        width: overrides the width that its tensors show.
        stem: overrides the stem that its tensors show.
        stem_stride: stride of a small stem, which no tensor shows; 1 unless given.

    Returns:
        The network in eval mode, and the `KeyReport`.

    Raises:
        ValueError: the file is missing, truncated, holds objects other than tensors, or says of
            its network what cannot be; nothing in it fits, or anything but head keys differs from
            the network; or a weight is no number.
    """
    given = {"arch": arch, "width": width, "stem": stem, "stem_stride": stem_stride}
    return _load(Path(path), given, classifier=False)


def load_classifier(
    path: str | Path,
    *,
    arch: str | None = None,
    width: float | None = None,
    stem: Stem | None = None,
    stem_stride: Literal[1, 2] | None = None,
) -> tuple[nn.Module, KeyReport]:
    """Build the network that a checkpoint holds and load it with its linear classifier.

    Where the file has no classifier, as a self-supervised network, the report's ``classes`` is
    None and the network is that of `load_backbone`, whose arguments and errors these are.

    Returns:
        The network in eval mode, (N,3,H,W) -> (N,``classes``) logits, and the `KeyReport`.
    """
    given = {"arch": arch, "width": width, "stem": stem, "stem_stride": stem_stride}
    return _load(Path(path), given, classifier=True)


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
    candidates, refusals = [], []
    for place in _places(content, arch):
        try:
            spec = own or guess_spec(entries.path, read_place(content, place), arch)
            spec = replace(spec, **{k: v for k, v in given.items() if v is not None})
            candidates.append(FoundBackbone(entries.path, entries, place, content, spec))
        except ValueError as error:
            refusals.append(error)
    fitting = sorted((c for c in candidates if c.fits), key=lambda c: not c.is_alone)
    if fitting:
        return replace(fitting[0], others=tuple(c.place for c in fitting[1:]))
    if candidates:
        return candidates[0]
    raise refusals[0] if refusals else _nothing_found(entries, content, arch)


def _places(content: Mapping[str, Any], arch: str | None) -> list[Place]:
    """Where all names of a network are; else where most are; with no name, where any known is."""
    if arch is None:
        return list(find_places(content, ANCHORS))
    wanted = [k for k in backbone_shapes(BackboneSpec(arch)) if not k.endswith(COUNT)]
    counts = find_places(content, wanted)
    most = max(counts.values(), default=0)
    return [place for place, count in counts.items() if count == most]


def _known(arch: str | None) -> str | None:
    """A file's name of its network, where it is one: others' files have names of their own."""
    return arch if arch and is_known(arch) else None


def _nothing_found(
    entries: FileEntries, content: Mapping[str, Any], arch: str | None
) -> ValueError:
    path, state = entries.path, next((s for _, s in state_dicts(content)), None)
    if state is None:
        return ValueError(
            f"checkpoint: {path} holds no state dict; its entries are "
            f"{', '.join(map(str, list(content)[:8])) or 'none'}; expected one of the layouts of "
            "MoCo, DINO, SwAV, solo-learn, torchvision or timm"
        )
    named = ", ".join(list(state)[:4])
    if arch:
        return ValueError(
            f"checkpoint: {path} holds none of the entries of {arch}; its keys are {named}, …; "
            f"{_advice(path, content)}"
        )
    said = f" The file calls it {shown(entries.arch())}" if entries.arch() else ""
    return ValueError(
        f"checkpoint: {path}: the architecture cannot be told from its keys ({named}, …); name it: "
        f"--arch or --teacher-arch.{said}"
    )


def _load(path: Path, given: dict[str, Any], *, classifier: bool) -> tuple[nn.Module, KeyReport]:
    found = find_backbone(path, given)
    entries, state, spec = found.entries, found.state, found.spec
    mean, std = entries.normalisation()
    with torch.random.fork_rng(devices=[]):  # what is read from a file draws no random numbers
        network = create_backbone(**spec.to_dict())
        classes = None if found.place.is_projected else _classes(network, state)
        if classifier and classes:
            network = create_classifier(classes, **spec.to_dict())
    classes = classes if classifier else None
    report = KeyReport(
        found.path,
        found.place.layout,
        spec,
        mean=mean,
        std=std,
        size=entries.size(),
        classes=classes,
        class_names=entries.classes(classes) if classes else None,
        published=not found.path.is_file(),
        features=cast(int, network.num_features),
        place=str(found.place),
        others=[str(place) for place in found.others],
    )
    advice = _advice(found.path, found.content, spec)
    return network.eval(), fill(network, state, report, advice, _head(network, state))


def _head(network: nn.Module, state: Iterable[str]) -> list[str]:
    """Names of a head, the network's own or one of those that others hang on it."""
    start = f"{network.head_name}."
    return [k for k in state if k.startswith(start) or HEAD_KEY.match(k)]


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


def _classes(network: nn.Module, state: Mapping[str, Any]) -> int | None:
    """Outputs of the state's classifier; None where its head is no single linear layer."""
    head = f"{network.head_name}."
    weights = [v for k, v in state.items() if k.startswith(head) and k.endswith("weight")]
    is_linear = len(weights) == 1 and isinstance(weights[0], Tensor) and weights[0].ndim == 2
    return len(weights[0]) if is_linear else None


def _advice(path: Path, content: Mapping[str, Any], used: BackboneSpec | None = None) -> str:
    """The options that name the network whose tensors these are."""
    for place in find_places(content, ANCHORS):
        try:
            shown_spec = guess_spec(path, read_place(content, place), None)
        except ValueError:
            continue
        if used is None or replace(shown_spec, stem_stride=used.stem_stride) != used:
            options = [f"--arch {shown_spec.arch}", f"--width {shown_spec.width:g}"]
            options += [f"--stem {shown_spec.stem}"]
            return (
                "Name the architecture that the file holds: "
                f"{' '.join(options)}, of a teacher {' '.join(options).replace('--', '--teacher-')}"
            )
        return (
            f"Its tensors are a {used.arch}'s, of width {used.width:g}, with others or not all: "
            "save that network's state_dict() alone, and whole"
        )
    return "Name the architecture that the file holds: --arch or --teacher-arch"
