"""Backbones of detectors that return a dict of maps: torchvision's, Detectron2's and their like.

Their classes are not imported: a body is known by its modules, so that Detectron2 need not be
installed and a subclass is read like its parent.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mgd_ssl.models.modes import evaluating
from mgd_ssl.models.tap_finder import find_taps
from mgd_ssl.models.taps import FeatureReader, Taps, own_hooks

PROBE_SIDE = 64
BODY_MODULES = {"c2": "layer1", "c3": "layer2", "c4": "layer3", "c5": "layer4"}

RESIDUAL_STAGES = {"c2": "res2", "c3": "res3", "c4": "res4", "c5": "res5"}
FeatureDict = Mapping[str, Tensor]


class DictBackbone(nn.Module):
    """A backbone that returns name -> (N,C,H,W), with the first implementation's three functions.

    Its maps are C2..C5, as many as its body has, before their last activation; then, where it is a
    feature pyramid, the maps of its dict, which are linear.

    Args:
        network: torchvision's IntermediateLayerGetter or BackboneWithFPN on a ResNet; Detectron2's
            ResNet or FPN on one.
        reader: reads C2..C5 of a body that no rule knows, say `Taps`.

    Raises:
        ValueError: no rule finds C2..C5 and no reader is given.
    """

    def __init__(self, network: nn.Module, reader: FeatureReader | None = None) -> None:
        super().__init__()
        self.network = network
        self.reader = reader or _find_levels(network)
        maps, features = self._probe()
        is_pyramid = any(hasattr(network, name) for name in ("fpn", "bottom_up"))
        self.pyramid = list(features) if is_pyramid else []
        self.names = [*self.reader.names, *(f"fpn_{n}".replace(".", "_") for n in self.pyramid)]
        self.channels = [m.shape[1] for m in (*maps, *(features[n] for n in self.pyramid))]

    @property
    def linear_inds(self) -> list[int]:
        """Positions of the pyramid's maps, which no batch norm and activation follow."""
        return list(range(len(self.reader.names), len(self.names)))

    def forward(self, x: Tensor) -> FeatureDict:
        """The network's own dict."""
        return cast(FeatureDict, self.network(x))

    def extract_feature(self, x: Tensor, preReLU: bool = False) -> tuple[list[Tensor], FeatureDict]:
        """The maps and the dict, in one pass; C2..C5 after a ReLU unless ``preReLU``."""
        maps, output = self.reader(self.network, x)
        features = cast(FeatureDict, output)
        maps = maps if preReLU else [m.relu() for m in maps]
        return [*maps, *(features[name] for name in self.pyramid)], features

    def get_bn_before_relu(self) -> list[nn.Module | None]:
        """The batch norm before each of C2..C5, and None for each map of the pyramid."""
        return [*self.reader.norms(self.network), *(None for _ in self.pyramid)]

    def get_channel_num(self) -> list[int]:
        """Channels of each map."""
        return list(self.channels)

    @torch.no_grad()
    def _probe(self) -> tuple[list[Tensor], FeatureDict]:
        with evaluating(self.network):
            maps, output = self.reader(self.network, _blank(self.network))
        return maps, cast(FeatureDict, output)


@torch.no_grad()
def returns_dict(network: nn.Module) -> bool:
    """Whether a network's output is a dict of maps; one pass of a blank image, in eval mode."""
    with evaluating(network):
        return isinstance(network(_blank(network)), Mapping)


def _blank(network: nn.Module) -> Tensor:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, device=device)


class ResidualSums:
    """Reads the sum that the last block of each stage of Detectron2's ResNet rectifies.

    The block adds its shortcut to its last convolution's output, and rectifies the sum, in place
    and by functions: no module has the sum as its input or output. It is added up here, once more.

    Args:
        blocks: name of a map -> path of the block.
    """

    def __init__(self, blocks: Mapping[str, str]) -> None:
        self.blocks = dict(blocks)
        self.names = list(blocks)

    def __call__(self, network: nn.Module, x: Tensor) -> tuple[list[Tensor], Any]:
        """See `FeatureReader`.

        Raises:
            RuntimeError: the pass did not reach a block.
        """
        sums: dict[str, Tensor] = {}
        handles: list[RemovableHandle] = []
        try:
            for name, path in self.blocks.items():
                handles += _hook_block(network.get_submodule(path), name, sums)
            output = network(x)
        finally:
            for handle in handles:
                handle.remove()
        for name in (n for n in self.names if n not in sums):
            raise RuntimeError(f"{name}: the pass did not reach module {self.blocks[name]}")
        return [sums[name] for name in self.names], output

    def norms(self, network: nn.Module) -> list[nn.Module | None]:
        """See `FeatureReader`."""
        convs = [_last_conv(network.get_submodule(path)) for path in self.blocks.values()]
        return [getattr(conv, "norm", None) for conv in convs]

    def rectified(self, network: nn.Module) -> list[bool]:
        """See `FeatureReader`: a ReLU follows every residual sum."""
        return [True] * len(self.names)


def _hook_block(block: Any, name: str, sums: dict[str, Tensor]) -> list[RemovableHandle]:
    def begin(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sums.pop(name, None)
        if block.shortcut is None:
            sums[name] = inputs[0]

    def add(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        # A new tensor, and as soon as both are there: the block goes on to write into one of them.
        sums[name] = sums[name] + output if name in sums else output

    branches = [m for m in (_last_conv(block), block.shortcut) if m is not None]
    for module in (block, *branches):
        own_hooks(module)
    handles = [branch.register_forward_hook(add) for branch in branches]
    return [block.register_forward_pre_hook(begin), *handles]


def _last_conv(block: Any) -> nn.Module:
    """Of a bottleneck or of a basic block."""
    return cast(nn.Module, block.conv3 if hasattr(block, "conv3") else block.conv2)


def _find_levels(network: nn.Module) -> FeatureReader:
    """C2..C5 of the body: the network's ``body`` or ``bottom_up``, or the network itself."""
    for prefix in ("body", "bottom_up", ""):
        body = getattr(network, prefix, None) if prefix else network
        if not isinstance(body, nn.Module):
            continue
        start = f"{prefix}." if prefix else ""
        blocks = _residual_blocks(body)
        if blocks:
            return ResidualSums({name: start + path for name, path in blocks.items()})
        layers = [f"{n}={p}" for n, p in BODY_MODULES.items() if hasattr(body, p)]
        if layers:
            return Taps([tap.below(prefix) for tap in find_taps(body, layers, PROBE_SIDE).taps])
    children = ", ".join(name for name, _ in network.named_children())
    raise ValueError(
        f"{type(network).__name__}: no rule finds its C2..C5, expected layer1..layer4 of "
        "torchvision or res2..res5 of Detectron2, in itself, its body or its bottom_up. Give it "
        "the method extract_feature, or put it in DictBackbone(network, Taps([...])). Top modules: "
        f"{children}"
    )


def _residual_blocks(body: nn.Module) -> dict[str, str]:
    """Name -> path of the last block of each stage that is Detectron2's."""
    stages = {name: getattr(body, stage, None) for name, stage in RESIDUAL_STAGES.items()}
    return {
        name: f"{RESIDUAL_STAGES[name]}.{len(stage) - 1}"
        for name, stage in stages.items()
        if isinstance(stage, nn.Sequential) and _is_residual(stage[-1])
    }


def _is_residual(block: nn.Module) -> bool:
    return hasattr(block, "conv2") and hasattr(block, "shortcut")
