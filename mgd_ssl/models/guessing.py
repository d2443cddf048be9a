"""Which network a state dict is of, as its names and shapes show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd_ssl.models.resnets import LEAST_CHANNELS, RESNETS, scaled
from mgd_ssl.models.specs import BackboneSpec

# An entry that a family of networks has, and no other: by it they are told apart.
RESNET = "layer1.0.conv1.weight"
MOBILENET = "features.18.0.weight"
SHUFFLENET = "stage2.0.branch2.0.weight"
ANCHORS = (RESNET, MOBILENET, SHUFFLENET)


def guess_spec(path: Path, state: Mapping[str, Any], arch: str | None) -> BackboneSpec:
    """Architecture where none is given, width and stem from the tensors' names and shapes.

    Raises:
        ValueError: the tensors are of no network that is known by its names, or of no shape that
            a network has.
    """
    if arch and ":" in arch:
        return BackboneSpec(arch)  # it has the stem and the width that its function gives it
    if RESNET in state:
        return _guess_resnet(path, state, arch)
    if MOBILENET in state and arch in (None, "mobilenet_v2"):
        return BackboneSpec("mobilenet_v2", _shape(path, state, MOBILENET)[1] / 320)
    if arch:
        return BackboneSpec(arch)
    if SHUFFLENET in state:
        return BackboneSpec("shufflenet_v2_x1_0")
    raise ValueError(
        f"checkpoint: {path}: the architecture cannot be told from its keys "
        f"({', '.join(list(state)[:4])}, …); name it: --arch or --teacher-arch"
    )


def _guess_resnet(path: Path, state: Mapping[str, Any], arch: str | None) -> BackboneSpec:
    arch = arch or _resnet_name(path, state)
    kernel = _shape(path, state, "conv1.weight")[-1] if "conv1.weight" in state else 7
    width = _guess_width(path, state) if arch in RESNETS else 1.0
    return BackboneSpec(arch, width, "small" if kernel == 3 else "imagenet")


def _guess_width(path: Path, state: Mapping[str, Any]) -> float:
    """The factor on 64, 128, 256 and 512 channels; the roundest of those that give the state's."""
    layers = {64 << i: f"layer{i + 1}.0.conv1.weight" for i in range(4)}
    found = {plain: _shape(path, state, key)[0] for plain, key in layers.items() if key in state}
    least = max([0.0, *((n - 0.5) / c for c, n in found.items() if n > LEAST_CHANNELS)])
    most = min((n + 0.5) / c for c, n in found.items())
    middle = (least + most) / 2
    near = [round(middle), round(middle, 1), round(middle * 64) / 64]
    for width in [*near, *(round(middle, digits) for digits in range(2, 6))]:
        if width > 0 and all(scaled(c, width) == n for c, n in found.items()):
            return width
    return middle


def _shape(path: Path, state: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Of a convolution's weight."""
    value = state[key]
    if not isinstance(value, Tensor) or value.ndim != 4 or 0 in value.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"checkpoint: {path}, {key}: got {got}, expected the weight of a convolution, of four "
            "dimensions; copy or download the file again"
        )
    return tuple(value.shape)


def _resnet_name(path: Path, state: Mapping[str, Any]) -> str:
    blocks = [
        len({k.split(".")[1] for k in state if k.startswith(f"layer{i}.")}) for i in range(1, 5)
    ]
    bottleneck = "layer1.0.conv3.weight" in state
    for name, (block, layers) in RESNETS.items():
        if layers == blocks and (block.expansion == 4) == bottleneck:
            return name
    raise ValueError(
        f"checkpoint: {path}: a ResNet with {blocks} blocks, which is none of "
        f"{', '.join(RESNETS)}; name its architecture: --arch or --teacher-arch"
    )
