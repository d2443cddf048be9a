"""Taps of named modules: what a pass of the network shows of each, one after another."""

import difflib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.models import VisionTransformer

from mgd_ssl.matching.margins import is_batch_norm
from mgd_ssl.models.taps import Layout, Tap, Taps, probe

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU)


def resolve(network: nn.Module, pairs: list[tuple[str, str]], size: int) -> list[Tap]:
    """The tap of each pair (name, module path).

    Raises:
        ValueError: no such module, a pass does not reach it, it gives neither map nor tokens, or
            nothing tells which are its channels.
    """
    for _, path in pairs:
        _require_module(network, path)
    calls = trace(network, size)
    outputs = {path: _output_of(name, path, calls) for name, path in pairs}
    layouts = _layouts(network, outputs, size)
    return [_resolve_one(network, name, path, calls, layouts[path]) for name, path in pairs]


@dataclass(frozen=True)
class Call:
    """A module's call in a pass: what went in first, and what came out."""

    path: str
    module: nn.Module
    inputs: Tensor
    output: Tensor


def trace(network: nn.Module, size: int) -> list[Call]:
    """Every module call of one pass, in order of return."""
    calls: list[Call] = []

    def hook(path: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                calls.append(Call(path, module, inputs[0], output))

        return record

    handles = [m.register_forward_hook(hook(path)) for path, m in network.named_modules() if path]
    try:
        probe(network, Taps([]), size)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _output_of(name: str, path: str, calls: list[Call]) -> Tensor:
    """What a module gives in its last call."""
    own = [c.output for c in calls if c.path == path]
    if not own:
        raise ValueError(f"taps: {name}={path}: the pass does not reach it; name another module")
    if own[-1].ndim not in (3, 4):
        raise ValueError(
            f"taps: {name}={path}: its output has shape {tuple(own[-1].shape)}, expected (N,C,H,W) "
            "or tokens (N,L,D)"
        )
    return own[-1]


def _resolve_one(
    network: nn.Module, name: str, path: str, calls: list[Call], layout: Layout
) -> Tap:
    if layout == "tokens":
        return Tap(name, path, "output", None, layout, prefix_tokens(network), rectified=False)
    inside = [c for c in calls if c.path == path or c.path.startswith(path + ".")]
    output = _output_of(name, path, calls)
    activation = next(
        (c for c in inside if isinstance(c.module, ACTIVATIONS) and c.output is output), None
    )
    before = activation.inputs if activation else output
    norm = next((c.path for c in reversed(inside) if _is_main_norm(c, before.shape[1])), None)
    if activation:
        return Tap(name, activation.path, "last_input", norm, layout)
    later = any(isinstance(c.module, ACTIVATIONS) and c.inputs is output for c in calls)
    positive = bool((output >= 0).all()) and bool(output.any())
    return Tap(name, path, "output", norm, layout, rectified=later or positive)


def prefix_tokens(network: nn.Module) -> int:
    """Tokens of a network before its patches: the class token and registers."""
    if isinstance(network, VisionTransformer):  # torchvision's, which does not say
        return 1
    return int(getattr(network, "num_prefix_tokens", 0))


def layout_of(output: Tensor) -> Layout | None:
    """Tokens, or whether channels come second or last; None of a map with three equal sides."""
    if output.ndim == 3:
        return "tokens"
    _, a, b, c = output.shape
    if a == b == c:
        return None
    return "channels_last" if a == b else "map"


def _layouts(network: nn.Module, outputs: dict[str, Tensor], size: int) -> dict[str, Layout]:
    """The layout of the output of each path."""
    found = {path: layout_of(output) for path, output in outputs.items()}
    others = {layout for layout in found.values() if layout} - {"tokens"}
    return {p: layout or _layout_of_cube(network, p, size, others) for p, layout in found.items()}


def _layout_of_cube(network: nn.Module, path: str, size: int, others: set[Layout]) -> Layout:
    """The layout of an output with three equal sides.

    Images twice as large show it. Where the network takes no such images, it is that of the others.
    """
    taps = Taps([Tap(path, path, "output")])
    with taps.recording(network) as maps, suppress(ValueError):  # it may take no other size
        probe(network, Taps([]), 2 * size)
    larger = layout_of(maps[path][0]) if path in maps else None
    if larger:
        return larger
    if len(others) == 1:
        return next(iter(others))
    raise ValueError(
        f"taps: {path}: at {size} pixels its output has as many channels as rows and columns, and "
        "nothing tells which are the channels; take images of another size, or tap another module"
    )


def _is_main_norm(call: Call, channels: int) -> bool:
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
