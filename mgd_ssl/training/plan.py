"""The plan of a run: what is matched to what."""

from collections.abc import Sequence

from torch import nn

from mgd_ssl import distributed
from mgd_ssl.models import BackboneSpec, FeatureReader, KeyReport, Taps
from mgd_ssl.stages import Side, Stage
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
    norms = teacher.reader.norms(teacher.network)
    console.print("stages: student <- teacher", highlight=False)
    for stage in stages:
        read = f"{_module(reader, stage.index)} <- {_module(teacher.reader, stage.teacher_index)}"
        lines = [f"  {stage.index} {stage.name}: {_pair(stage)}"]
        if not stage.ignored:
            group = "1, expanded" if expands else _group(stage)
            lines.append(f"groups of {group}; {_loss(stage, norms[stage.teacher_index])}")
        lines.append("; ".join([f"reads {read}", *stage.warnings]))
        console.print("\n      ".join(lines), highlight=False, markup=False)


def _pair(stage: Stage) -> str:
    def said(channels: int, side: Side | None) -> str:
        return f"{channels} channels" + (f" of {side[0]}×{side[1]}" if side else "")

    student = said(stage.student_channels, stage.student_side)
    return f"{student} <- {said(stage.teacher_channels, stage.teacher_side)}"


def _loss(stage: Stage, norm: nn.Module | None) -> str:
    if stage.form == "standard":
        return "two-sided, standardized"
    if stage.form == "linear":
        return "one-sided, no margin"
    return f"one-sided, margin {'measured' if norm is None else 'of the batch norm'}"


def _group(stage: Stage) -> str:
    if stage.student_channels > stage.teacher_channels:
        return "1, shared"
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
