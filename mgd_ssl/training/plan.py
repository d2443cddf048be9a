"""The plan of a run: what is matched to what."""

from collections.abc import Iterable, Mapping, Sequence

from rich.padding import Padding
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.grouping import Grouping
from mgd_ssl.models import BackboneSpec, FeatureReader, KeyReport, Taps
from mgd_ssl.screen import console, print_rows
from mgd_ssl.stages import Side, Stage
from mgd_ssl.tasks.task import FrozenTeacher
from mgd_ssl.training.logging import logger


def print_plan(
    stages: Sequence[Stage],
    teacher: FrozenTeacher,
    reader: FeatureReader,
    grouping: Grouping,
) -> None:
    """Print what is matched to what: modules, channels, sides, groups, margins, warnings.

    Args:
        stages: from `plan_stages`.
        teacher: the frozen network and its reader.
        reader: reads the student's maps.
        grouping: of the distiller.
    """
    if distributed.rank():
        return
    console.print("matching, in channels of height×width:", highlight=False)
    rows = [_row(stage, grouping) for stage in stages]
    print_rows(("stage", "student", "teacher", "groups of"), rows)
    norms = teacher.reader.norms(teacher.network)
    losses = {s.name: _loss(s, norms[s.teacher_index]) for s in stages if not s.ignored}
    lines = _by_value("loss: ", losses)
    matched = [stage for stage in stages if not stage.ignored]
    own = _listed(_module(reader, stage.index) for stage in matched)
    theirs = _listed(_module(teacher.reader, stage.teacher_index) for stage in matched)
    both = [f"student and teacher read {own}"]
    lines += both if own == theirs else [f"student reads {own}", f"teacher reads {theirs}"]
    lines += _by_value("", {s.name: "; ".join(s.warnings) for s in stages if s.warnings})
    for line in lines:
        console.print(Padding(line, (0, 0, 0, 2), expand=False), highlight=False)


def _listed(names: Iterable[str]) -> str:
    """Each name once."""
    return ", ".join(dict.fromkeys(names))


def _row(stage: Stage, grouping: Grouping) -> tuple[str, str, str, str]:
    def said(channels: int, side: Side | None) -> str:
        return str(channels) + (f" of {side[0]}×{side[1]}" if side else "")

    group = "ignored" if stage.ignored else _group(stage, grouping)
    student = said(stage.student_channels, stage.student_side)
    teacher = said(stage.teacher_channels, stage.teacher_side)
    return f"{stage.index} {stage.name}", student, teacher, group


def _by_value(start: str, said: Mapping[str, str]) -> list[str]:
    """A line for each text; the stages are named where they differ."""
    texts = dict.fromkeys(said.values())
    if len(texts) == 1 and start:
        return [start + text for text in texts]
    return [
        f"{start}{', '.join(name for name, own in said.items() if own == text)}: {text}"
        for text in texts
    ]


def _loss(stage: Stage, norm: nn.Module | None) -> str:
    if stage.form == "standard":
        return "two-sided, standardized"
    if stage.form == "linear":
        return "one-sided, no margin"
    return f"one-sided, margin {'measured' if norm is None else 'of the batch norm'}"


def _group(stage: Stage, grouping: Grouping) -> str:
    if grouping.expands:
        return "1, expanded"
    if grouping.rows(stage) > stage.teacher_channels:
        return "1, shared"
    most = grouping.size(stage)
    return str(most) if grouping.is_full(stage) else f"{most - 1}–{most}"


def _module(reader: FeatureReader, index: int) -> str:
    if not isinstance(reader, Taps):
        return "extract_feature"
    tap = reader.taps[index]
    return f"{tap.module} input" if tap.read == "last_input" else tap.module


def say_inputs(size: int, teachers: int, student: BackboneSpec, report: KeyReport) -> None:
    """Say whether student and teacher see images of one size, and small ones through one stem.

    Args:
        size: side of the student's images in pixels.
        teachers: side of the teacher's.
        student: the network.
        report: of the teacher's file.
    """
    ours, theirs = _words(size, student), _words(report.size or size, report.spec)
    if not report.size:
        logger.info("student: %s; the teacher's file records no size", ours)
    elif ours == theirs:
        logger.info("student: %s, as the teacher", ours)
    else:
        logger.info("student: %s; the teacher's file: %s", ours, theirs)
    if teachers != size:
        logger.info("the teacher sees each view at %d pixels (--teacher-size)", teachers)


def _words(size: int, spec: BackboneSpec) -> str:
    small = spec.stem == "small"
    return f"images of {size} pixels" + f", small stem of stride {spec.stem_stride}" * small
