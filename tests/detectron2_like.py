"""Small networks with the modules, names and in-place sums of Detectron2's ResNet and FPN."""

from collections import OrderedDict
from types import SimpleNamespace

import torch.nn.functional as F
from torch import nn

LEVELS = ("res2", "res3", "res4", "res5")


class Conv2d(nn.Conv2d):
    """A convolution that calls its norm inside, as Detectron2's wrapper does."""

    def __init__(self, *arguments, norm, **options):
        super().__init__(*arguments, bias=False, **options)
        self.norm = norm(self.out_channels)

    def forward(self, x):
        return self.norm(super().forward(x))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        self.conv1 = Conv2d(inputs, outputs, 3, stride=stride, padding=1, norm=norm)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1, norm=norm)
        needed = stride > 1 or inputs != outputs
        self.shortcut = Conv2d(inputs, outputs, 1, stride=stride, norm=norm) if needed else None

    def main(self, x):
        return self.conv2(F.relu_(self.conv1(x)))

    def forward(self, x):
        out = self.main(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BottleneckBlock(BasicBlock):
    def __init__(self, inputs, outputs, stride, norm):
        super().__init__(inputs, outputs, stride, norm)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1, norm=norm)
        self.conv3 = Conv2d(outputs, outputs, 1, norm=norm)

    def main(self, x):
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))


class ResNet(nn.Module):
    """Detectron2's layout: stem, res2..res5, a dict of some stages' outputs after their ReLU."""

    def __init__(self, widths, block=BasicBlock, norm=nn.BatchNorm2d, depth=2, out=LEVELS):
        super().__init__()
        self.stem = Conv2d(3, widths[0], 3, stride=2, padding=1, norm=norm)
        inputs = widths[0]
        for name, width in zip(LEVELS, widths, strict=True):
            blocks = [block(inputs, width, 2, norm)]
            blocks += [block(width, width, 1, norm) for _ in range(depth - 1)]
            setattr(self, name, nn.Sequential(*blocks))
            inputs = width
        self.widths, self.out = dict(zip(LEVELS, widths, strict=True)), out
        self.passes = 0

    def output_shape(self):
        return {name: SimpleNamespace(channels=self.widths[name]) for name in self.out}

    def forward(self, x):
        self.passes += 1
        x, found = F.relu_(self.stem(x)), OrderedDict()
        for name in LEVELS:
            x = getattr(self, name)(x)
            if name in self.out:
                found[name] = x
        return found


class FPN(nn.Module):
    """Detectron2's pyramid of RetinaNet, from res3 on, of one level more."""

    def __init__(self, bottom_up, channels):
        super().__init__()
        self.bottom_up = bottom_up
        shapes = bottom_up.output_shape()
        self.lateral = nn.ModuleList(nn.Conv2d(s.channels, channels, 1) for s in shapes.values())
        self.top = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        features = self.bottom_up(x)
        maps = [conv(f) for conv, f in zip(self.lateral, features.values(), strict=True)]
        return OrderedDict(zip(("p3", "p4", "p5", "p6"), [*maps, self.top(maps[-1])], strict=True))
