"""Where features are read: found without editing a network, and without changing what it computes.

A tap is a module path and one of two things to read there: the module's output, or the input of
the module's last call in a pass. The second is how a map *before* the activation is read: the
activation is a module, and what goes into it is the map.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import MobileNetV2, ShuffleNetV2
from torchvision.models.resnet import ResNet

from mgd_ssl.models.modes import evaluating

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU)
STAGES = ("layer1", "layer2", "layer3", "layer4")
PROBE_BATCH = 2


@dataclass(frozen=True)
class Tap:
    """One place to read a map.

    Attributes:
        name: the stage's name in plans, losses and checkpoints.
        module: path of the module in the network.
        read: ``output``, or ``last_input``, the input of the module's last call in a pass.
        norm: path of the batch norm that the map's margin is taken from, where there is one.
    """

    name: str
    module: str
    read: Literal["output", "last_input"]
    norm: str | None = None


@runtime_checkable
class FeatureReader(Protocol):
    """Reads a network's maps and its output in one pass."""

    names: list[str]

    def __call__(self, network: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """(N,3,H,W) -> the maps, a (N,C_i,H_i,W_i) each, and the network's output."""
        ...

    def norms(self, network: nn.Module) -> list[nn.Module | None]:
        """The batch norm before each map, or None."""
        ...


class Taps:
    """Reads maps through hooks that stand only while the network runs."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self.taps = list(taps)
        self.names = [tap.name for tap in self.taps]

    def __call__(self, network: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `FeatureReader`.

        Raises:
            RuntimeError: a module was not reached, or the map was overwritten in place.
        """
        with self.recording(network) as maps:
            output = network(x)
        return [self._checked(tap, maps) for tap in self.taps], output

    @contextmanager
    def recording(self, network: nn.Module) -> Iterator[dict[str, tuple[Tensor, int]]]:
        """Fill a dict, name -> (map, its version), with each pass inside the context."""
        maps: dict[str, tuple[Tensor, int]] = {}
        handles = [self._hook(network.get_submodule(tap.module), tap, maps) for tap in self.taps]
        try:
            yield maps
        finally:
            for handle in handles:
                handle.remove()

    def norms(self, network: nn.Module) -> list[nn.Module | None]:
        """See `FeatureReader`."""
        return [network.get_submodule(tap.norm) if tap.norm else None for tap in self.taps]

    @staticmethod
    def _hook(module: nn.Module, tap: Tap, maps: dict[str, tuple[Tensor, int]]) -> Any:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            maps[tap.name] = (inputs[0], _version(inputs[0]))

        def after(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            maps[tap.name] = (output, _version(output))

        if tap.read == "last_input":
            return module.register_forward_pre_hook(before)
        return module.register_forward_hook(after)

    @staticmethod
    def _checked(tap: Tap, maps: dict[str, tuple[Tensor, int]]) -> Tensor:
        if tap.name not in maps:
            raise RuntimeError(f"tap {tap.name}: the pass did not reach module {tap.module}")
        tensor, version = maps[tap.name]
        if _version(tensor) != version:
            raise RuntimeError(
                f"tap {tap.name}: the map of {tap.module} was overwritten in place after it was "
                "read; tap the module that overwrites it instead"
            )
        return tensor


def _version(x: Tensor) -> int:
    """How often a tensor was written in place; inference tensors do not count it."""
    return 0 if x.is_inference() else x._version


class ContractReader:
    """Reads a network that offers extract_feature, get_bn_before_relu and get_channel_num."""

    def __init__(self, network: nn.Module) -> None:
        self.names = [f"stage{i}" for i in range(len(cast(Any, network).get_channel_num()))]

    def __call__(self, network: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `FeatureReader`."""
        maps, output = cast(Any, network).extract_feature(x, preReLU=True)
        return list(maps), output

    def norms(self, network: nn.Module) -> list[nn.Module | None]:
        """See `FeatureReader`."""
        return list(cast(Any, network).get_bn_before_relu())


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
    network: nn.Module, overrides: Sequence[str] = (), size: int = 224
) -> FeatureReader:
    """Taps of any network: its own three functions, the overrides, or what `find_taps` finds."""
    if not overrides and hasattr(network, "extract_feature"):
        return ContractReader(network)
    return find_taps(network, overrides, size)


def find_taps(network: nn.Module, overrides: Sequence[str] = (), size: int = 224) -> Taps:
    """Find the taps of a network and keep later activations from overwriting them.

    Args:
        network: torchvision ResNet, MobileNet v2, ShuffleNet v2; timm networks with
            ``feature_info``; any other with ``overrides``.
        overrides: ``NAME=module.path`` a tap, in the order of the stages.
        size: image side, in pixels, for the pass that finds the last activation in a module.

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
        pairs = _stage_modules(network)
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


@torch.no_grad()
def probe(network: nn.Module, reader: FeatureReader, size: int) -> list[Tensor]:
    """The maps of a batch of blank images (2,3,size,size), in eval mode; no state changes."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with evaluating(network):
        return reader(network, torch.zeros(PROBE_BATCH, 3, size, size, device=device))[0]


def _stage_modules(network: nn.Module) -> list[tuple[str, str]]:
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
        f"--taps NAME=module.path, one a stage. Top modules: {children}"
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
    module = call.module
    return isinstance(module, _BatchNorm) and module.num_features == channels and not shortcut


def _require_module(network: nn.Module, path: str) -> None:
    try:
        network.get_submodule(path)
    except AttributeError as error:
        known = [name for name, _ in network.named_modules() if name]
        near = difflib.get_close_matches(path, known, n=3) or known[:8]
        raise ValueError(
            f"taps: {path!r} is no module of {type(network).__name__}; nearest: {', '.join(near)}"
        ) from error
