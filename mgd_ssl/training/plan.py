"""The plan of a run: what is matched to what."""

from collections.abc import Sequence

from rich.table import Table
from torch import nn

from mgd_ssl.models import FeatureReader, Taps
from mgd_ssl.stages import Stage
from mgd_ssl.training.logging import console


def print_plan(
    stages: Sequence[Stage],
    teacher: nn.Module,
    teacher_reader: FeatureReader,
    student_reader: FeatureReader,
    *,
    expands: bool = False,
) -> None:
    """Print what is matched to what: modules, channels, sides, groups, margins, warnings."""
    table = Table(title="Stages")
    for heading in ("stage", "student", "teacher", "channels", "side", "group", "margin from", ""):
        table.add_column(heading, overflow="fold")
    norms = {module: name for name, module in teacher.named_modules()}
    for stage, norm in zip(stages, teacher_reader.norms(teacher), strict=True):
        table.add_row(
            f"{stage.index} {stage.name}",
            _module(student_reader, stage.index),
            _module(teacher_reader, stage.index),
            f"{stage.student_channels} <- {stage.teacher_channels}",
            f"{stage.side[0]}×{stage.side[1]}" if stage.side else "",
            "" if stage.ignored else "1, expanded" if expands else _group(stage),
            "" if stage.ignored or norm is None else norms.get(norm, type(norm).__name__),
            "; ".join(stage.warnings),
        )
    console.print(table)


def _group(stage: Stage) -> str:
    whole, rest = divmod(stage.teacher_channels, stage.student_channels)
    return f"{whole}–{whole + 1}" if rest else str(whole)


def _module(reader: FeatureReader, index: int) -> str:
    if not isinstance(reader, Taps):
        return "extract_feature"
    tap = reader.taps[index]
    return f"{tap.module} input" if tap.read == "last_input" else tap.module
