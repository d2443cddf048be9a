"""torch.compile for networks that are tapped."""

from collections.abc import Collection

from torch import nn

from mgd_ssl.models.taps import FeatureReader, Taps


def compile_parts(network: nn.Module, tapped: Collection[str] = ()) -> int:
    """Compile, in place, the largest parts of a network that no tap stands in.

    A tap is a hook that comes and goes with each pass: compiled code would not see it, or would be
    compiled anew at every pass. So the few blocks that are tapped stay as they are. Keys of the
    state dict do not change.

    Args:
        network: its head and its single layers are left alone.
        tapped: paths of the modules that taps read.

    Returns:
        Number of parts compiled.
    """
    count = 0
    for name, child in network.named_children():
        inside = [t.removeprefix(name).removeprefix(".") for t in tapped if _under(t, name)]
        if inside:
            count += compile_parts(child, [t for t in inside if t])
        elif name != getattr(network, "head_name", None) and any(child.children()):
            child.compile()
            count += 1
    return count


def tapped_modules(reader: FeatureReader | None) -> list[str]:
    """Paths of the modules that a reader hooks; none where the network gives its maps itself."""
    return [tap.module for tap in reader.taps] if isinstance(reader, Taps) else []


def _under(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")
