"""The frozen teacher, and what matches a student to it."""

from torch import nn

from mgd_ssl import distributed
from mgd_ssl.data import (
    Normalize,
)
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.matching import stage_weights
from mgd_ssl.models import (
    FeatureReader,
    KeyReport,
    Taps,
    find_reader,
    probe,
)
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.stages import plan_stages, read_margins
from mgd_ssl.tasks import Teacher
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import print_plan


def make_teacher(
    config: RunConfig, network: nn.Module, report: KeyReport, matched: bool = True
) -> Teacher:
    """Freeze a loaded network and, where it is matched, find where its maps are read."""
    logger.info("teacher %s", report)
    reader: FeatureReader = Taps([])
    if matched:
        taps, size = config.teacher.teacher_taps, config.loader.size
        reader = find_reader(network, taps, size, "--teacher-taps")
    return Teacher(network, reader, Normalize(report.mean, report.std))


def build_distiller(
    config: RunConfig, teacher: Teacher, student: nn.Module, reader: FeatureReader
) -> FeatureDistiller:
    """Pair the stages, print the plan, and build the distiller."""
    mgd, size = config.mgd, config.loader.size
    teacher_maps = probe(teacher.network, teacher.reader, size)
    student_maps, norms = probe(student, reader, size), teacher.reader.norms(teacher.network)
    stages = plan_stages(teacher_maps, student_maps, reader.names, mgd.ignore, norms)
    margins = read_margins(norms, stages)
    if distributed.rank() == 0:
        expands = mgd.mgd_adapter == "expand"
        print_plan(stages, teacher.network, teacher.reader, reader, expands=expands)
    published = stage_weights(len(stages), images=1, factor=1.0)
    return FeatureDistiller(
        stages,
        margins,
        reducer=mgd.mgd_reducer,
        mode=mgd.mgd_mode,
        adapter=mgd.mgd_adapter,
        **mgd.scaling(published),
    )
