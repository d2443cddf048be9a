"""Read backbones from the checkpoints of other projects and of this one.

A file is searched for a state dict, and for the prefix of its keys, whose names fit a network: see
`mgd_ssl.models.layouts` and `mgd_ssl.models.families`. So MoCo's files, DINO's, SwAV's,
solo-learn's, MMSelfSup's, lightly's, Lightning's, torchvision's and timm's are read, those that
DINOv2's authors publish, and this project's own, which are MoCo's with more beside it: the student
of a run of pretrain.py is ``module.encoder_q.*``, whatever its method.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models.backbones import (
    create_backbone,
    create_classifier,
    unfilled_of,
    without_memory,
)
from mgd_ssl.models.families import Terms, published_terms, recognize
from mgd_ssl.models.filling import KeyReport, fill
from mgd_ssl.models.finding import HEAD_KEY, FoundBackbone, find_backbone
from mgd_ssl.models.layouts import read_place
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.models.refusals import advice
from mgd_ssl.models.weights import files_of

Stem = Literal["imagenet", "small"]
DISTILLED_HEAD = "head_dist."  # of timm's distilled networks, which average two heads
__all__ = ["FoundBackbone", "find_backbone", "load_backbone", "load_classifier"]


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


def _load(path: Path, given: dict[str, Any], *, classifier: bool) -> tuple[nn.Module, KeyReport]:
    found = find_backbone(path, given)
    state, spec = found.state, found.spec
    # reading a file draws no random numbers, and gives every parameter its value
    with torch.random.fork_rng(devices=[]), unfilled_of(spec):
        # what does not fit is refused by its shapes, before memory is taken for what a file says
        network = create_backbone(**spec.to_dict()) if found.fits else without_memory(spec)
        classes = None if found.place.is_projected else _classes(network, state)
        if classifier and classes and found.fits:
            network = create_classifier(classes, **spec.to_dict())
    report = _report(found, network, classes if classifier else None)
    remedy = advice(found.path, found.content, spec)
    report = fill(network.eval(), state, report, remedy, _head(network, state, report.classes))
    if found.family:
        found.family.finish(network, read_place(found.content, found.place))
    return network, report


def _report(found: FoundBackbone, network: nn.Module, classes: int | None) -> KeyReport:
    """What is known of a file before its weights are loaded."""
    entries, family = found.entries, found.family
    mean, std = found.normalization
    return KeyReport(
        found.path,
        family.name if family else found.place.layout,
        found.spec,
        head=list(found.read.head),
        aside=list(found.read.aside),
        mean=mean,
        std=std,
        size=_size(found, network),
        classes=classes,
        class_names=entries.classes(classes) if classes else None,
        published=not found.path.is_file(),
        features=cast(int, network.num_features),
        place=str(found.place),
        others=[str(place) for place in found.others],
        remarks=_remarks(found),
        sha256=sha256_of(*files_of(found.path)),
        terms=_terms(found),
        learned_from=entries.provenance(),
    )


def _remarks(found: FoundBackbone) -> list[str]:
    """What the file does not tell and is assumed."""
    family, usual = found.family, found.usual_normalization
    remarks = family.remarks(found.spec, found.read, found.path) if family else []
    if usual is None or found.normalization != usual or usual == (IMAGENET_MEAN, IMAGENET_STD):
        return remarks
    mean, std = (" ".join(f"{x:g}" for x in values) for values in usual)
    return [
        *remarks,
        f"images normalized by mean {mean} and deviation {std}, as for all weights that timm "
        f"publishes of {found.spec.arch}",
    ]


def _terms(found: FoundBackbone) -> Terms | None:
    """Terms of published weights: of a family's files, or of the name that timm has for them."""
    if found.path.is_file():
        return found.family.terms_of(found.path) if found.family else None
    return published_terms(str(found.path))


def _size(found: FoundBackbone, network: nn.Module) -> int | None:
    """Side of the images that a network was trained on, where the file or its positions tell."""
    family = found.family or recognize(found.state)
    if family is None:
        return found.entries.size()
    side = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if family.resizes:  # a library's usual size is none that the network was made for
        return found.entries.size() if found.path.is_file() else None
    return found.entries.size() or (int(side[0]) if side else None)


def _head(network: nn.Module, state: Iterable[str], classes: int | None) -> list[str]:
    """Names of a head, the network's own or one of those that others hang on it.

    A classifier of a distilled network needs both heads, so that the second is not left out there.
    """
    start = f"{network.head_name}."
    found = [k for k in state if k.startswith(start) or HEAD_KEY.match(k)]
    return [k for k in found if not (classes and k.startswith(DISTILLED_HEAD))]


def _classes(network: nn.Module, state: Mapping[str, Any]) -> int | None:
    """Outputs of the state's classifier; None where its head is no single linear layer."""
    head = f"{network.head_name}."
    weights = [v for k, v in state.items() if k.startswith(head) and k.endswith("weight")]
    is_linear = len(weights) == 1 and isinstance(weights[0], Tensor) and weights[0].ndim == 2
    return len(weights[0]) if is_linear else None
