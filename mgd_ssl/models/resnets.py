"""ResNets of torchvision, and thinner ones."""

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
    "resnet152": (Bottleneck, [3, 8, 36, 3]),
}
LEAST_CHANNELS = 8  # of a thin ResNet's layers


class ThinResNet(ResNet):  # type: ignore[misc]
    """torchvision's ResNet with every channel count multiplied by ``width``."""

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], layers: list[int], width: float
    ) -> None:
        self.width = width
        super().__init__(block, layers)
        channels = self._scaled(64)
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(self._scaled(512) * block.expansion, 1000)

    def _scaled(self, channels: int) -> int:
        return scaled(channels, self.width)

    def _make_layer(self, block: Any, planes: int, *args: Any, **options: Any) -> nn.Sequential:
        if planes == 64:  # layer1, whose input is the stem's output
            self.inplanes = self._scaled(64)
        layer: nn.Sequential = super()._make_layer(block, self._scaled(planes), *args, **options)
        return layer


def scaled(channels: int, width: float) -> int:
    """Channels of a ResNet's layer at a width."""
    return max(LEAST_CHANNELS, round(channels * width))
