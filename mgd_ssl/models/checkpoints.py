"""Read backbones from the checkpoint layouts of other projects and of this one.

Layouts: MoCo v1/v2 (``state_dict`` with ``module.encoder_q.``), MoCo v3 (``module.base_encoder.``),
DINO (``teacher``), SwAV (``module.``), solo-learn and MMSelfSup (``backbone.``), plain torchvision
and timm state dicts, safetensors, and this project's own, which is MoCo's with more beside it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mgd_ssl.models.backbones import (
    RESNETS,
    BackboneSpec,
    create_backbone,
    create_classifier,
)
from mgd_ssl.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models.weights import read_weights

# (layout, entry of the checkpoint or None, prefix of the keys); the first that fits is taken.
LAYOUTS: tuple[tuple[str, str | None, str], ...] = (
    ("moco", "state_dict", "module.encoder_q."),
    ("moco", "state_dict", "encoder_q."),
    ("moco v3", "state_dict", "module.base_encoder."),
    ("dino", "teacher", "module.backbone."),
    ("dino", "teacher", "backbone."),
    ("detector", "state_dict", "backbone.body."),
    ("backbone", "state_dict", "backbone."),
    ("swav", "state_dict", "module."),
    ("state_dict", "state_dict", ""),
    ("state_dict", "model", ""),
    ("swav", None, "module."),
    ("plain", None, ""),
)
# Layouts whose head is a projection, even where it is one linear layer.
PROJECTED = ("moco", "moco v3")
HEAD_KEY = re.compile(r"^(fc|classifier|head|projection_head|projector|prototypes|predictor)\.")


@dataclass(frozen=True)
class KeyReport:
    """What a checkpoint held and what became of it.

    Attributes:
        path: the file.
        layout: the layout recognised.
        spec: the network built.
        matched: number of entries loaded.
        missing: entries of the network that the file lacks.
        unexpected: entries of the file that the network lacks, the head's aside.
        head: entries of the head, left out.
        mean: per channel, of the images the network expects, in [0,1].
        std: per channel.
        size: side of the images it was trained on, in pixels, where the file says so.
        classes: outputs of its classifier, where it was loaded with one.
        features: dimension of its pooled features.
    """

    path: Path
    layout: str
    spec: BackboneSpec
    matched: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: int | None = None
    classes: int | None = None
    features: int = 0

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.layout} layout, {self.spec.arch}; keys: {self.matched} matched, "
            f"{len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.head)} of a head left out"
        )


def load_backbone(
    path: str | Path,
    *,
    arch: str | None = None,
    width: float | None = None,
    stem: Literal["imagenet", "small"] | None = None,
    stem_stride: Literal[1, 2] | None = None,
) -> tuple[nn.Module, KeyReport]:
    """Build the network that a checkpoint holds and load it, the head left out.

    Args:
        path: the file, or the name of published weights (see `read_weights`); what the layout
            does not say is read off the shapes of the tensors.
        arch: overrides the architecture that the file names or that its keys show.
        width: overrides the width that its tensors show.
        stem: overrides the stem that its tensors show.
        stem_stride: stride of a small stem, which no tensor shows; 1 unless given.

    Returns:
        The network in eval mode, and the `KeyReport`.

    Raises:
        ValueError: the file is missing, truncated, holds objects other than tensors, no layout
            fits, or anything but head keys differs from the network.
    """
    given = {"arch": arch, "width": width, "stem": stem, "stem_stride": stem_stride}
    return _load(Path(path), given, classifier=False)


def load_classifier(
    path: str | Path,
    *,
    arch: str | None = None,
    width: float | None = None,
    stem: Literal["imagenet", "small"] | None = None,
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
    checkpoint, metadata = read_weights(path)
    layout, state = _find_state(path, checkpoint)
    _refuse_other_body(path, checkpoint)
    spec = _find_spec(checkpoint, metadata, state, given["arch"])
    spec = replace(spec, **{k: v for k, v in given.items() if v is not None})
    with torch.random.fork_rng(devices=[]):  # what is read from a file draws no random numbers
        network = create_backbone(**spec.to_dict())
        classes = _classes(network, state) if classifier and layout not in PROJECTED else None
        if classes:
            network = create_classifier(classes, **spec.to_dict())
    mean, std = _find_normalisation(checkpoint, metadata)
    size = checkpoint.get("size", metadata.get("size"))
    size = None if size is None else int(size)
    report = _load_state(path, layout, spec, network, state)
    found: dict[str, Any] = {"mean": mean, "std": std, "size": size, "classes": classes}
    return network.eval(), replace(report, **found, features=cast(int, network.num_features))


def _refuse_other_body(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """A detector's body may compute otherwise than torchvision's network of the same keys."""
    detector = checkpoint.get("detector")
    if isinstance(detector, Mapping) and (detector["caffe"] or detector["norm_eps"] != 1e-5):
        raise ValueError(
            f"checkpoint: {path} is a detector whose body has its stride in the 1×1 convolutions, "
            "or norms of another epsilon, expected torchvision's; use it as a detector, or train "
            "one without --teacher-caffe and Detectron2's MSRA weights"
        )


def _classes(network: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Outputs of the state's classifier; None where its head is no single linear layer."""
    head = f"{network.head_name}."
    weights = [v for k, v in state.items() if k.startswith(head) and k.endswith("weight")]
    return len(weights[0]) if len(weights) == 1 and weights[0].ndim == 2 else None


def _find_state(path: Path, checkpoint: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """The name of the layout and the backbone's state dict, prefix taken off."""
    for layout, entry, prefix in LAYOUTS:
        source = checkpoint.get(entry) if entry else checkpoint
        if not isinstance(source, Mapping):
            continue
        state = {
            key.removeprefix(prefix): value
            for key, value in source.items()
            if isinstance(key, str) and key.startswith(prefix) and isinstance(value, Tensor)
        }
        if state:
            return layout, state
    raise ValueError(
        f"checkpoint: {path} holds no state dict; its entries are "
        f"{', '.join(map(str, list(checkpoint)[:8])) or 'none'}; expected one of the layouts of "
        "MoCo, DINO, SwAV, solo-learn, torchvision or timm"
    )


def _find_spec(
    checkpoint: dict[str, Any],
    metadata: dict[str, str],
    state: dict[str, Tensor],
    arch: str | None,
) -> BackboneSpec:
    own = checkpoint.get("backbone")
    if isinstance(own, Mapping) and "arch" in own:
        return BackboneSpec(**own)
    if "backbone" in metadata:
        return BackboneSpec(**json.loads(metadata["backbone"]))
    named = arch or checkpoint.get("arch")
    return guess_spec(state, named if isinstance(named, str) else None)


def guess_spec(state: dict[str, Tensor], arch: str | None) -> BackboneSpec:
    """Architecture where none is given, width and stem from the tensors' names and shapes."""
    if "layer1.0.conv1.weight" in state:
        stem = state.get("conv1.weight")
        channels, kernel = (stem.shape[0], stem.shape[-1]) if stem is not None else (64, 7)
        return BackboneSpec(
            arch or _guess_resnet(state), channels / 64, "small" if kernel == 3 else "imagenet"
        )
    if arch:
        return BackboneSpec(arch)
    if "features.18.0.weight" in state:
        return BackboneSpec("mobilenet_v2")
    if "stage2.0.branch2.0.weight" in state:
        return BackboneSpec("shufflenet_v2_x1_0")
    raise ValueError(
        "checkpoint: the architecture cannot be told from its keys "
        f"({', '.join(list(state)[:4])}, …); name it: --arch or --teacher-arch"
    )


def _guess_resnet(state: dict[str, Tensor]) -> str:
    blocks = [
        len({k.split(".")[1] for k in state if k.startswith(f"layer{i}.")}) for i in range(1, 5)
    ]
    bottleneck = "layer1.0.conv3.weight" in state
    for name, (block, layers) in RESNETS.items():
        if layers == blocks and (block.expansion == 4) == bottleneck:
            return name
    raise ValueError(
        f"checkpoint: a ResNet with {blocks} blocks, which is none of {', '.join(RESNETS)}; "
        "name its architecture: --arch or --teacher-arch"
    )


def _find_normalisation(
    checkpoint: dict[str, Any], metadata: dict[str, str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    own = checkpoint.get("normalisation")
    if own is None and "normalisation" in metadata:
        own = json.loads(metadata["normalisation"])
    if isinstance(own, Mapping):
        return tuple(own["mean"]), tuple(own["std"])
    return IMAGENET_MEAN, IMAGENET_STD


def _load_state(
    path: Path, layout: str, spec: BackboneSpec, network: nn.Module, state: dict[str, Tensor]
) -> KeyReport:
    own = network.state_dict()
    head_name = str(network.head_name) + "."
    head = [k for k in state if k not in own and (k.startswith(head_name) or HEAD_KEY.match(k))]
    unexpected = [k for k in state if k not in own and k not in head]
    # Files older than PyTorch 0.4.1 do not count batches; nothing computes with the count.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    matched = sum(k in state for k in own) - len(shapes)
    report = KeyReport(path, layout, spec, matched, missing, unexpected, head)
    if missing or unexpected or shapes:
        raise ValueError(_partial(report, own, state, shapes))
    network.load_state_dict({k: state[k] for k in own if k in state}, strict=False)
    return report


def _partial(
    report: KeyReport, own: Mapping[str, Tensor], state: Mapping[str, Tensor], shapes: list[str]
) -> str:
    lines = [f"checkpoint: a partial load is refused. {report}, {len(shapes)} of another shape"]
    lines += [f"  missing: {', '.join(report.missing[:5])}"] if report.missing else []
    lines += [f"  unexpected: {', '.join(report.unexpected[:5])}"] if report.unexpected else []
    lines += [
        f"  shape of {key}: got {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in shapes[:3]
    ]
    return "\n".join(
        [*lines, "  Name the architecture that the file holds: --arch or --teacher-arch"]
    )
