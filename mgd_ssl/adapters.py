"""Layers between the student's maps and the matching; thrown away with the distiller."""

import math
from typing import get_args

from torch import nn

from mgd_ssl.choices import Adapter


def make_adapter(kind: Adapter, student_channels: int, teacher_channels: int) -> nn.Module:
    """The layer that a student's map passes before it is compared.

    Args:
        kind: ``batch``, BatchNorm2d; ``group``, GroupNorm(32), with fewer groups where these would
            hold less than two channels; or ``expand``, a 1×1 convolution to the teacher's channels.
        student_channels: C_s.
        teacher_channels: C_t.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in get_args(Adapter):
        raise ValueError(f"adapter: got {kind!r}, expected one of {', '.join(get_args(Adapter))}")
    if kind == "expand":
        return nn.Conv2d(student_channels, teacher_channels, kernel_size=1)
    if kind == "batch":
        return nn.BatchNorm2d(student_channels)
    groups = math.gcd(32, max(1, student_channels // 2))  # 32 from 64 channels on, as published
    return nn.GroupNorm(groups, student_channels)
