"""What a student learns from: the frozen teacher, and the matching between their maps."""

from collections.abc import Sequence
from typing import TypedDict

from torch import nn

from mgd_ssl.data import Normalize, Shrink
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.matching import stage_weights
from mgd_ssl.models import FeatureReader, KeyReport, Taps, find_reader, probe
from mgd_ssl.pairing import forms_of
from mgd_ssl.settings.options import LoaderOptions, TeacherOptions
from mgd_ssl.settings.run import MGDOptions, RunConfig
from mgd_ssl.stages import Stage, plan_stages, read_margins
from mgd_ssl.tasks.task import FrozenTeacher, Teacher
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import print_plan


class Distillation(TypedDict, total=False):
    """What a `Task` takes beside the student; empty where the student is trained alone."""

    teacher: FrozenTeacher
    reader: FeatureReader
    distiller: FeatureDistiller


def make_teacher(
    options: TeacherOptions, size: int, network: nn.Module, report: KeyReport, matched: bool = True
) -> Teacher:
    """Freeze a loaded network and, where it is matched, find where its maps are read.

    Args:
        options: of the teacher.
        size: side of the images that it is given, in pixels.
        network: its weights loaded.
        report: of the loading.
        matched: whether its maps are read.
    """
    logger.info("teacher %s", report)
    reader: FeatureReader = Taps([])
    if matched:
        reader = find_reader(network, options.teacher_taps, size, "--teacher-taps")
    return Teacher(network, reader, Normalize(report.mean, report.std), size)


def student_input(loader: LoaderOptions) -> nn.Module:
    """Views in [0,1], of the student's side or larger -> what the student expects."""
    return nn.Sequential(Shrink(loader.size), Normalize(loader.mean, loader.std))


def teacher_size(config: RunConfig) -> int:
    """Side of the images that the teacher is given, in pixels."""
    return config.teacher.teacher_size or config.loader.size


def match_maps(config: RunConfig, teacher: Teacher, student: nn.Module) -> Distillation:
    """Find the student's maps, plan which of the teacher's each meets, and print the plan.

    Raises:
        ValueError: no rule finds the maps, or they cannot be matched.
    """
    reader = find_reader(student, config.network.taps, config.loader.size)
    stages = plan_matching(config, teacher, student, reader)
    published = stage_weights(len(stages))
    distiller = build_distiller(config.mgd, stages, teacher, published)
    print_plan(stages, teacher, reader, distiller.grouping)
    return {"teacher": teacher, "reader": reader, "distiller": distiller}


def plan_matching(
    config: RunConfig, teacher: Teacher, student: nn.Module, reader: FeatureReader
) -> list[Stage]:
    """Pair the stages of two networks of single images."""
    teacher_maps = probe(teacher.network, teacher.reader, teacher_size(config))
    student_maps = probe(student, reader, config.loader.size)
    forms = forms_of(teacher.reader, teacher.network)
    enlarged = teacher_size(config) / config.loader.size
    return plan_stages(teacher_maps, student_maps, reader.names, config.mgd.ignore, forms, enlarged)


def build_distiller(
    mgd: MGDOptions, stages: Sequence[Stage], teacher: FrozenTeacher, published: Sequence[float]
) -> FeatureDistiller:
    """The distiller of a plan.

    Args:
        mgd: how stages are matched and weighed.
        stages: the plan, from `plan_stages`.
        teacher: its margins are read.
        published: weight of each stage in the method's own total.
    """
    return FeatureDistiller(
        stages,
        read_margins(teacher.reader.norms(teacher.network), stages),
        reducer=mgd.mgd_reducer,
        mode=mgd.mgd_mode,
        adapter=mgd.mgd_adapter,
        grid=mgd.mgd_grid,
        **mgd.scaling(published),
    )
