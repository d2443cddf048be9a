"""How features are read: without editing a network, and without changing what it computes.

A tap is a module path and one of two things to read there: the module's output, or the input of
the module's last call in a pass. The second is how a map *before* the activation is read: the
activation is a module, and what goes into it is the map. Tokens (N,L,D) and maps whose channels
come last are read as maps (N,C,H,W) too.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from mgd_ssl.models.modes import evaluating

PROBE_BATCH = 2
Layout = Literal["map", "channels_last", "tokens", "class_token"]


@dataclass(frozen=True)
class Tap:
    """One place to read a map.

    Attributes:
        name: the stage's name in plans, losses and checkpoints.
        module: path of the module in the network.
        read: ``output``, or ``last_input``, the input of the module's last call in a pass.
        norm: path of the batch norm that the map's margin is taken from, where there is one.
        layout: of what is read: (N,C,H,W), (N,H,W,C), or tokens (N,L,D), of which the patches are
            read as a map, or the class token, the first, as one of a single pixel.
        prefix: tokens before the patches, which are left out: the class token and registers.
        rectified: whether an activation that cuts negative values off follows the map.
    """

    name: str
    module: str
    read: Literal["output", "last_input"]
    norm: str | None = None
    layout: Layout = "map"
    prefix: int = 0
    rectified: bool = True

    def below(self, path: str) -> "Tap":
        """This tap in a larger network, which holds the tap's own as the module ``path``."""
        start = f"{path}." if path else ""
        norm = start + self.norm if self.norm else None
        return replace(self, module=start + self.module, norm=norm)


@runtime_checkable
class FeatureReader(Protocol):
    """Reads a network's maps and its output in one pass."""

    names: list[str]

    def __call__(self, network: nn.Module, x: Tensor) -> tuple[list[Tensor], Any]:
        """(N,3,H,W) -> the maps, a (N,C_i,H_i,W_i) each, and the network's output."""
        ...

    def norms(self, network: nn.Module) -> list[nn.Module | None]:
        """The batch norm before each map, or None."""
        ...

    def rectified(self, network: nn.Module) -> list[bool]:
        """Whether an activation that cuts negative values off follows each map."""
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

    def rectified(self, network: nn.Module) -> list[bool]:
        """See `FeatureReader`."""
        return [tap.rectified for tap in self.taps]

    @staticmethod
    def _hook(module: nn.Module, tap: Tap, maps: dict[str, tuple[Tensor, int]]) -> Any:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            maps[tap.name] = (inputs[0], _version(inputs[0]))

        def after(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            maps[tap.name] = (output, _version(output))

        own_hooks(module)
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
        return as_map(tensor, tap.layout, tap.prefix)


def as_map(x: Tensor, layout: Layout, prefix: int = 0) -> Tensor:
    """What a module gives -> (N,C,H,W); see `Tap`.

    Raises:
        ValueError: the tokens behind the prefix are no square grid.
    """
    if layout == "channels_last":
        return x.permute(0, 3, 1, 2)
    if layout == "map":
        return x
    if layout == "class_token":
        return x[:, 0, :, None, None]
    patches = x.shape[1] - prefix
    side = math.isqrt(max(patches, 0))
    if side == 0 or side * side != patches:
        raise ValueError(
            f"tokens: got {x.shape[1]} of which {prefix} come before the patches, expected a "
            "square grid of patches: square images"
        )
    return x[:, prefix:].transpose(1, 2).reshape(len(x), -1, side, side)


def own_hooks(module: nn.Module) -> None:
    """Give a replica of DataParallel hooks of its own, before any is registered for one pass.

    Replicas are shallow copies that run in threads at the same time: they hold their original's
    dicts of hooks, so that one's hook would fire, and be removed, in all others.
    """
    if getattr(module, "_is_replica", False):
        module._forward_hooks = module._forward_hooks.copy()
        module._forward_pre_hooks = module._forward_pre_hooks.copy()


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

    def rectified(self, network: nn.Module) -> list[bool]:
        """See `FeatureReader`."""
        return [norm is not None for norm in self.norms(network)]


@torch.no_grad()
def probe(
    network: nn.Module, reader: FeatureReader, size: int, option: str = "--size"
) -> list[Tensor]:
    """The maps of a batch of blank images (2,3,size,size), in eval mode; no state changes.

    Args:
        network: any.
        reader: of its maps.
        size: image side, in pixels.
        option: what sets the size, for the message.

    Raises:
        ValueError: the network takes no images of that size.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with evaluating(network), naming_size(network, size, option):
        return reader(network, torch.zeros(PROBE_BATCH, 3, size, size, device=device))[0]


@contextmanager
def naming_size(network: nn.Module, size: int, option: str = "--size") -> Iterator[None]:
    """Inside, a network that takes no images of ``size`` pixels is a ValueError that says so."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        if str(error).startswith("tap "):
            raise
        raise ValueError(
            f"{option.lstrip('-').replace('-', '_')}: {type(network).__name__} takes no images of "
            f"{size} pixels ({error}); expected {_valid_size(network, size, option)}"
        ) from error


def _valid_size(network: nn.Module, size: int, option: str) -> str:
    """A size that a network takes, in words: a multiple of its patch, or that it is built for."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if getattr(network, "dynamic_img_size", False) and patch:
        side = int(patch[0])
        nearest = max(1, round(size / side)) * side
        return f"a multiple of its patches' {side} pixels: {option} {nearest}"
    built = (getattr(network, "default_cfg", None) or {}).get("input_size", (3, 224, 224))[-1]
    return f"a size that it is built for: {option} {built}"
