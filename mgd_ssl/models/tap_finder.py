"""Where features are read: taps that find themselves, and a plan's overrides."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models import MobileNetV2, ShuffleNetV2
from torchvision.models.resnet import ResNet

from mgd_ssl.matching.margins import is_batch_norm
from mgd_ssl.models.taps import ContractReader, FeatureReader, Tap, Taps, probe

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU)
STAGES = ("layer1", "layer2", "layer3", "layer4")


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

    Args:
        network: torchvision ResNet, MobileNet v2, ShuffleNet v2; timm networks with
            ``feature_info``; any other with ``overrides``.
        overrides: ``NAME=module.path`` a tap, in the order of the stages.
        size: image side, in pixels, for the pass that finds the last activation in a module.
        option: what names the overrides, for the message.

    Raises:
        ValueError: no rule for the network, an override that names no module, or one name twice.
    """
    clear_inplace(network)
    if overrides:
        pairs = _parse_overrides(overrides)
    elif isinstance(network, ShuffleNetV2):
        return Taps([Tap(n, p, "output") for n, p in zip(STAGES, _SHUFFLENET_MODULES, strict=True)])
    elif isinstance(network, MobileNetV2):
        return Taps(
            [Tap(n, p, "output", p) for n, p in zip(STAGES, _MOBILENET_V2_NORMS, strict=True)]
        )
    else:
        pairs = _stage_modules(network, option)
    return Taps(_resolve(network, pairs, size))


# The stem after max-pooling, then each stage after concatenation and shuffle.
_SHUFFLENET_MODULES = ("maxpool", "stage2", "stage3", "stage4")
# The expanded depthwise batch norms with 144, 192, 384, 960 channels and sides 28, 28, 14, 7 at
# 224. The second is feature 6's: feature 7's, also 192 wide, has side 14 in the untouched network.
_MOBILENET_V2_NORMS = tuple(f"features.{i}.conv.1.1" for i in (4, 6, 11, 17))


def clear_inplace(network: nn.Module) -> None:
    """Keep activations from overwriting the maps that they read; the results stay the same."""
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]


def _stage_modules(network: nn.Module, option: str) -> list[tuple[str, str]]:
    """Four (name, module path) of the stages that end at strides 4, 8, 16 and 32."""
    if isinstance(network, ResNet) or all(hasattr(network, name) for name in STAGES):
        return [(name, name) for name in STAGES]
    info = getattr(network, "feature_info", None)
    if info:
        modules = [item["module"] for item in list(info) if item["reduction"] >= 4][-4:]
        return list(zip(STAGES[-len(modules) :], modules, strict=True))
    children = ", ".join(name for name, _ in network.named_children())
    raise ValueError(
        f"{type(network).__name__}: no rule finds its taps; name them with "
        f"{option} NAME=module.path, one a stage. Top modules: {children}"
    )


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


def _resolve(network: nn.Module, pairs: list[tuple[str, str]], size: int) -> list[Tap]:
    for _, path in pairs:
        _require_module(network, path)
    calls = _trace(network, size)
    return [_resolve_one(name, path, calls) for name, path in pairs]


@dataclass(frozen=True)
class _Call:
    path: str
    module: nn.Module
    inputs: Tensor
    output: Tensor


def _trace(network: nn.Module, size: int) -> list[_Call]:
    """Every module call of one pass, in order of return."""
    calls: list[_Call] = []

    def hook(path: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                calls.append(_Call(path, module, inputs[0], output))

        return record

    handles = [m.register_forward_hook(hook(path)) for path, m in network.named_modules() if path]
    try:
        probe(network, Taps([]), size)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _resolve_one(name: str, path: str, calls: list[_Call]) -> Tap:
    inside = [c for c in calls if c.path == path or c.path.startswith(path + ".")]
    own = [c for c in inside if c.path == path]
    if not own:
        raise ValueError(f"taps: {name}={path}: the pass does not reach it; name another module")
    output = own[-1].output
    if output.ndim != 4:
        raise ValueError(
            f"taps: {name}={path}: its output has shape {tuple(output.shape)}, expected (N,C,H,W)"
        )
    activation = next(
        (c for c in inside if isinstance(c.module, ACTIVATIONS) and c.output is output), None
    )
    before = activation.inputs if activation else output
    norm = next((c.path for c in reversed(inside) if _is_main_norm(c, before.shape[1])), None)
    if activation:
        return Tap(name, activation.path, "last_input", norm)
    return Tap(name, path, "output", norm)


def _is_main_norm(call: _Call, channels: int) -> bool:
    """Whether a call is a batch norm of the main branch, as wide as the map."""
    shortcut = "downsample" in call.path or "shortcut" in call.path
    return is_batch_norm(call.module, channels) and not shortcut


def _require_module(network: nn.Module, path: str) -> None:
    try:
        network.get_submodule(path)
    except AttributeError as error:
        known = [name for name, _ in network.named_modules() if name]
        near = difflib.get_close_matches(path, known, n=3) or known[:8]
        raise ValueError(
            f"taps: {path!r} is no module of {type(network).__name__}; nearest: {', '.join(near)}"
        ) from error
