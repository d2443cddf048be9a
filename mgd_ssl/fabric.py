"""Lightning Fabric, imported without torchmetrics.

Where torchmetrics is installed, Fabric imports all of it, SciPy's and matplotlib's modules among
it, to learn its version. Nothing here uses it, and a command starts a good second earlier without.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def _without_torchmetrics() -> Iterator[None]:
    """Inside, torchmetrics cannot be imported, unless it was already."""
    hidden = {} if "torchmetrics" in sys.modules else {"torchmetrics": None}
    sys.modules |= hidden  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without_torchmetrics():
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import (
        ClusterEnvironment,
        LightningEnvironment,
        SLURMEnvironment,
    )
    from lightning_fabric.plugins.precision import MixedPrecision
    from lightning_fabric.strategies import DDPStrategy

__all__ = [
    "Autocast",
    "ClusterEnvironment",
    "DDPStrategy",
    "Fabric",
    "LightningEnvironment",
    "SLURMEnvironment",
]


class Autocast(MixedPrecision):  # type: ignore[misc]
    """Mixed precision by autocast alone: what a module is given keeps its precision.

    Fabric's own rounds it first: boxes would move by pixels, and pixels by half a gray level.
    """

    def convert_input(self, data: Any) -> Any:
        """The arguments of a module, as they are."""
        return data

    def convert_module(self, module: nn.Module) -> nn.Module:
        """The module; on a CPU, its convolutions see no map whose side is below their stride."""
        if self.device == "cpu":
            for part in module.modules():
                if isinstance(part, nn.Conv2d) and max(part.stride) > 1 and _is_centered(part):
                    part.register_forward_pre_hook(_widened)
        return module


def _is_centered(convolution: nn.Conv2d) -> bool:
    """Whether each output's taps lie around a pixel, zeros beyond the border."""
    if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
        return False
    taps = zip(convolution.kernel_size, convolution.dilation, convolution.padding, strict=True)
    return all(2 * padding == gap * (size - 1) for size, gap, padding in taps)


def _widened(convolution: nn.Conv2d, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """A map with zeros to the right and below, up to the stride, which leaves the output as it is.

    In bf16 and fp16 torch's CPU code leaves the weight gradient of smaller maps unwritten where
    padding alone was seen: it holds what was in memory before.
    """
    (images,) = inputs
    down, right = (
        max(0, s - n) for s, n in zip(convolution.stride, images.shape[-2:], strict=True)
    )
    return (F.pad(images, (0, right, 0, down)) if down or right else images,)
