"""Student, teacher and task of a pretraining run, each checked."""

from typing import cast

from torch import nn

from mgd_ssl.data import ImageSource
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import (
    BackboneSpec,
    KeyReport,
    Taps,
    create_backbone,
    load_backbone,
    probe,
    split_batch_norms,
)
from mgd_ssl.objectives import Objective
from mgd_ssl.objectives.objective import WithQueue
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.checks import check_norms, check_teacher
from mgd_ssl.training.distillation import (
    Distillation,
    make_teacher,
    match_maps,
    student_input,
    teacher_size,
)
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import say_inputs
from mgd_ssl.training.student_weights import Reports, refuse_teachers_own, say_start


def build_networks(
    config: PretrainConfig, source: ImageSource
) -> tuple[nn.Module, Reports, Distillation]:
    """The student, what was read of the files, and the teacher where there is one.

    Raises:
        ValueError: a file holds another network, or student and teacher do not go together.
    """
    options = config.teacher
    loaded = load_backbone(options.teacher, **options.spec) if options.teacher else None
    student, start = build_student(config)
    reports = Reports(loaded[1] if loaded else None, start)
    refuse_teachers_own(reports)
    probe(student, Taps([]), config.loader.size)
    if loaded is None:
        logger.info("no --teacher: the student is trained alone, by %s", config.method)
        return student, reports, {}
    say_inputs(
        config.loader.size, teacher_size(config), cast(BackboneSpec, student.spec), loaded[1]
    )
    distillation = distill(config, *loaded, student)
    teacher, loader = cast(Teacher, distillation["teacher"]), config.loader
    check_teacher(teacher, loader.size, source, loader.exif, config.seed)
    return student, reports, distillation


def build_student(config: PretrainConfig) -> tuple[nn.Module, KeyReport | None]:
    """A new network, or one that starts from ``--student-weights``, and what was read of these.

    Raises:
        ValueError: the weights are of another network than ``--arch``, ``--width`` and ``--stem``
            say.
    """
    if config.student_weights is None:
        return create_backbone(**config.network.spec), None
    student, report = load_backbone(config.student_weights, **config.network.spec)
    say_start(report, config.loader)
    return student, report


def distill(
    config: PretrainConfig, network: nn.Module, report: KeyReport, student: nn.Module
) -> Distillation:
    """The frozen teacher and, where its maps are matched, the student's reader and the distiller.

    Raises:
        ValueError: their maps cannot be matched; says what can be done at once.
    """
    size = teacher_size(config)
    probe(network, Taps([]), size, "--teacher-size")
    if not config.mgd.is_matched:
        return {"teacher": make_teacher(config.teacher, size, network, report, matched=False)}
    try:
        return match_maps(config, make_teacher(config.teacher, size, network, report), student)
    except ValueError as error:
        raise ValueError(f"{error}; or match no maps: {_without_maps(config)}") from error


def build_task(
    config: PretrainConfig,
    fabric: Fabric,
    student: nn.Module,
    report: KeyReport | None,
    distillation: Distillation,
) -> Pretraining:
    """The student with its objective, its batch norms split where keys would leak.

    Raises:
        ValueError: the batch does not suit the processes, the splits, the queue or the norms.
    """
    parts = fabric.world_size * config.optim.accumulate
    splits = split_norms(config, student, fabric.world_size)
    loss = config.objective.build(student, report.features if report else 0)
    normalize = student_input(config.loader)
    cached = config.teacher_cache is not None
    task = Pretraining(student, config.objective, loss, normalize, cached=cached, **distillation)
    images = config.optim.batch_size // (parts * splits)
    check_norms(task, config.loader.size, images, 2 * parts * splits)
    return task


def _without_maps(config: PretrainConfig) -> str:
    if METHODS[config.method].weighing != "none":
        return "--method simreg, without --mgd-weighing"
    return "leave out --mgd-weighing"


def split_norms(config: PretrainConfig, student: nn.Module, world_size: int) -> int:
    """Split the batch norms where one process contrasts a batch's images with each other.

    Returns:
        Parts of a process's batch that are normalized apart.
    """
    objective, batch = config.objective, config.optim.batch_size
    usual = usual_splits(batch) if objective.contrasts and world_size == 1 else 1
    splits = objective.bn_splits or usual
    others = split_batch_norms(student, splits)
    if others and splits > 1:
        logger.warning("%d batch norms cannot be split; keys may leak through them", others)
    _check_batch(batch, objective, world_size, splits)
    return splits


def usual_splits(batch: int) -> int:
    """Parts of 16 images or more, at most MoCo's 8, and at least 2; docs/log.md has the reason."""
    return next((n for n in (8, 4) if batch % n == 0 and batch >= 16 * n), 2)


def _check_batch(batch: int, objective: Objective, world_size: int, splits: int) -> None:
    if batch % (world_size * splits):
        raise ValueError(
            f"batch_size: got {batch} on {world_size} processes with {splits} batch norm splits, "
            f"expected a multiple of {world_size * splits}; change --batch-size or --bn-splits"
        )
    if not isinstance(objective, WithQueue):
        return
    queue = objective.moco_k
    if queue < batch or queue % batch:
        raise ValueError(
            f"moco_k: got a queue of {queue} keys and batches of {batch}, expected a queue "
            f"divisible by the batch; nearest --moco-k {max(1, round(queue / batch)) * batch}"
        )
