"""The layers to match: found automatically by a rule a kind of network, or named by the user."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast

from torch import Tensor, nn
from torchvision.models import DenseNet, MobileNetV2, ShuffleNetV2, VisionTransformer

from mgd_ssl.models.tap_resolving import Call, layout_of, resolve, trace
from mgd_ssl.models.taps import ContractReader, FeatureReader, Tap, Taps, as_map, probe
from mgd_ssl.models.torchvision_networks import PlainDenseNet

CLASS_TOKEN, PATCHES = "cls", "tokens"  # names of taps
STAGES = ("layer1", "layer2", "layer3", "layer4")
DEEPEST_BLOCK = 1  # dots in the path of what counts as a block: features.3, trunk_output.block1


class TappedNetwork(nn.Module):
    """A network with taps that offers the three functions of the first implementation."""

    def __init__(self, network: nn.Module, taps: Taps | None = None, size: int = 224) -> None:
        super().__init__()
        self.network = network
        self.taps = taps or find_taps(network, size=size)
        self.channels = [m.shape[1] for m in probe(network, self.taps, size)]

    def forward(self, x: Tensor) -> Tensor:
        """The network's own output."""
        return cast(Tensor, self.network(x))

    def extract_feature(self, x: Tensor, preReLU: bool = False) -> tuple[list[Tensor], Tensor]:
        """The maps and the output; the maps after a ReLU unless ``preReLU``."""
        maps, output = self.taps(self.network, x)
        return (maps if preReLU else [m.relu() for m in maps]), output

    def get_bn_before_relu(self) -> list[nn.Module | None]:
        """The batch norm before each map."""
        return self.taps.norms(self.network)

    def get_channel_num(self) -> list[int]:
        """Channels of each map."""
        return list(self.channels)


def find_reader(
    network: nn.Module, overrides: Sequence[str] = (), size: int = 224, option: str = "--taps"
) -> FeatureReader:
    """Taps of any network: its own three functions, the overrides, or what `find_taps` finds."""
    if not overrides and hasattr(network, "extract_feature"):
        return ContractReader(network)
    return find_taps(network, overrides, size, option)


def find_taps(
    network: nn.Module, overrides: Sequence[str] = (), size: int = 224, option: str = "--taps"
) -> Taps:
    """Find the taps of a network and keep later activations from overwriting them.

    A convolutional network is read at the end of its stages, of strides 4, 8, 16 and 32, before the
    last activation; a network of tokens at its final norm, as one map of its patches.

    Args:
        network: of torchvision, of timm, or any other whose maps shrink from stage to stage.
        overrides: ``NAME=module.path`` a tap, in the order of the stages.
        size: image side, in pixels, for the pass that finds the last activation in a module.
        option: what names the overrides, for the message.

    Raises:
        ValueError: no rule for the network, an override that names no module, or one name twice.
    """
    clear_inplace(network)
    if overrides:
        return Taps(resolve(network, _parse_overrides(overrides), size))
    for rule in RULES:
        if found := rule(network, size):
            return Taps(found)
    children = ", ".join(name for name, _ in network.named_children())
    raise ValueError(
        f"{type(network).__name__}: no rule finds its taps; name them with "
        f"{option} NAME=module.path, one a stage. Top modules: {children}"
    )


def find_tokens(network: nn.Module, size: int = 224) -> list[Tap]:
    """Taps of the class token and of the patches behind the final norm; none without tokens.

    The class token is left out where the network has none.
    """
    patches = _of_tokens(network, size)
    names = ("cls_token", "class_token")  # timm's, torchvision's
    has_class_token = any(isinstance(getattr(network, name, None), Tensor) for name in names)
    cls = [replace(tap, name=CLASS_TOKEN, layout="class_token") for tap in patches]
    return (cls if has_class_token else []) + patches


def clear_inplace(network: nn.Module) -> None:
    """Keep activations from overwriting the maps that they read; the results stay the same."""
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
        if type(module) is DenseNet:  # its activation is a function
            module.__class__ = PlainDenseNet


def _of_shufflenet(network: nn.Module, size: int) -> list[Tap]:
    """The stem after max-pooling, then each stage after concatenation and shuffle."""
    if not isinstance(network, ShuffleNetV2):
        return []
    modules = ("maxpool", "stage2", "stage3", "stage4")
    return [Tap(n, p, "output") for n, p in zip(STAGES, modules, strict=True)]


def _of_mobilenet_v2(network: nn.Module, size: int) -> list[Tap]:
    """The expanded depthwise batch norms with 144, 192, 384, 960 channels.

    Their sides are 28, 28, 14, 7 at 224. The second is feature 6's: feature 7's, also 192 wide, has
    side 14 in the untouched network.
    """
    if not isinstance(network, MobileNetV2):
        return []
    norms = [f"features.{i}.conv.1.1" for i in (4, 6, 11, 17)]
    return [Tap(n, p, "output", p) for n, p in zip(STAGES, norms, strict=True)]


def _of_tokens(network: nn.Module, size: int) -> list[Tap]:
    """The patches behind the final norm of a ViT, timm's or torchvision's."""
    if isinstance(network, VisionTransformer):
        return resolve(network, [(PATCHES, "encoder.ln")], size)
    if hasattr(network, "num_prefix_tokens") and hasattr(network, "norm"):
        return resolve(network, [(PATCHES, "norm")], size)
    return []


def _of_four_layers(network: nn.Module, size: int) -> list[Tap]:
    """The stages of a ResNet and of networks that call theirs the same."""
    if not all(hasattr(network, name) for name in STAGES):
        return []
    return resolve(network, [(name, name) for name in STAGES], size)


def _of_feature_info(network: nn.Module, size: int) -> list[Tap]:
    """What timm says of a network's stages; none where that is not true of it."""
    info = list(getattr(network, "feature_info", None) or ())
    modules = [item["module"] for item in info if item["reduction"] >= 4][-4:]
    if not modules:
        return []
    with suppress(ValueError):  # timm may name a module that the network lacks
        return resolve(network, list(zip(STAGES[-len(modules) :], modules, strict=True)), size)
    return []


def _of_shrinking_maps(network: nn.Module, size: int) -> list[Tap]:
    """The last block at each of strides 4, 8, 16 and 32, of a network that runs block by block."""
    last = {_stride(call, size): call.path for call in _blocks(network, size)}
    found = {stride: last[stride] for stride in (4, 8, 16, 32) if stride in last}
    names = [f"layer{stride.bit_length() - 2}" for stride in found]
    return resolve(network, list(zip(names, found.values(), strict=True)), size) if found else []


def _blocks(network: nn.Module, size: int) -> list[Call]:
    """Calls near the top that give a map, without those inside a block or the classifier.

    A module that takes a map is a block, unless it is a Sequential, which holds blocks.
    """
    calls = trace(network, size)
    taking_maps = [c for c in calls if c.inputs.shape[-1] != size]
    closed = {c.path for c in taking_maps if not isinstance(c.module, nn.Sequential)}
    closed.add(str(getattr(network, "head_name", "classifier")).partition(".")[0])
    return [c for c in calls if c.path.rpartition(".")[0] not in closed and _gives_map(c)]


def _gives_map(call: Call) -> bool:
    """Whether a call near the top gives a map.

    Pooling to a fixed side is left out: it may enlarge a map.
    """
    is_map = call.output.ndim == 4 and _side(call.output) > 1
    pools = isinstance(call.module, nn.AdaptiveAvgPool2d)
    return is_map and not pools and call.path.count(".") <= DEEPEST_BLOCK


def _stride(call: Call, size: int) -> int:
    """The nearest power of two: maps without padding are smaller than their stride says."""
    return int(2 ** round(math.log2(size / _side(call.output))))


def _side(output: Tensor) -> int:
    return as_map(output, layout_of(output) or "map").shape[2]


Rule = Callable[[nn.Module, int], list[Tap]]
# A rule for each kind of network, the first that finds something; each is given the image side.
RULES: list[Rule] = [
    _of_shufflenet,
    _of_mobilenet_v2,
    _of_tokens,
    _of_four_layers,
    _of_feature_info,
    _of_shrinking_maps,
]


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [_parse_override(text) for text in overrides]
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"taps: got the name {twice!r} twice, expected another for each tap")
    return pairs


def _parse_override(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(f"taps: got {text!r}, expected NAME=module.path")
    if "." in name:
        raise ValueError(f"taps: got the name {name!r}, expected one without a dot")
    return name, path
