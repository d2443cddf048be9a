"""The plan of a run: what is matched to what."""

from collections.abc import Sequence

from rich.table import Table

from mgd_ssl import distributed
from mgd_ssl.models import BackboneSpec, FeatureReader, KeyReport, Taps
from mgd_ssl.stages import Stage
from mgd_ssl.tasks.task import FrozenTeacher
from mgd_ssl.training.logging import console, logger


def print_plan(
    stages: Sequence[Stage],
    teacher: FrozenTeacher,
    reader: FeatureReader,
    *,
    expands: bool = False,
) -> None:
    """Print what is matched to what: modules, channels, sides, groups, margins, warnings.

    Args:
        stages: from `plan_stages`.
        teacher: the frozen network and its reader.
        reader: reads the student's maps.
        expands: whether the student's maps are expanded to the teacher's channels.
    """
    if distributed.rank():
        return
    table = Table(title="Stages")
    for heading in ("stage", "student", "teacher", "channels", "side", "group", "margin from", ""):
        table.add_column(heading, overflow="fold")
    norms = {module: name for name, module in teacher.network.named_modules()}
    for stage, norm in zip(stages, teacher.reader.norms(teacher.network), strict=True):
        table.add_row(
            f"{stage.index} {stage.name}",
            _module(reader, stage.index),
            _module(teacher.reader, stage.index),
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


def say_inputs(size: int, student: BackboneSpec, report: KeyReport) -> None:
    """Say whether student and teacher see images of one size through one stem."""
    ours, theirs = _words(size, student), _words(report.size or size, report.spec)
    if ours == theirs:
        logger.info("student: %s, as the teacher", ours)
    else:
        logger.info("student: %s; the teacher's file: %s", ours, theirs)


def _words(size: int, spec: BackboneSpec) -> str:
    small = spec.stem == "small"
    stem = f"small stem of stride {spec.stem_stride}" if small else "plain stem"
    return f"images of {size} pixels, {stem}"
