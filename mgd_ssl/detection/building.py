"""Builds the task of a detection run: both detectors and the distiller between them."""

from collections.abc import Sequence

import torch
from torchvision.models.detection import RetinaNet

from mgd_ssl.detection.categories import match_categories
from mgd_ssl.detection.networks import load_student, load_teacher
from mgd_ssl.detection.reader import BodyReader, body_reader
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.detection.task import Detection, DetectorTeacher
from mgd_ssl.matching import detection_weights
from mgd_ssl.models import evaluating
from mgd_ssl.models.dict_backbones import PROBE_SIDE
from mgd_ssl.stages import Form, Stage, plan_stages
from mgd_ssl.training.distillation import build_distiller
from mgd_ssl.training.plan import print_plan
from mgd_ssl.training.student_weights import Reports


def build_detection(config: DetectConfig, source: DetectionSource) -> tuple[Detection, Reports]:
    """Build the student, the teacher and the distiller between them; what their files say."""
    teacher, report = load_teacher(config) if config.teacher.teacher else (None, None)
    ids, names = tuple(source.category_ids), tuple(source.classes)
    if teacher and report and config.unlabeled:
        ids, names = tuple(teacher.spec.category_ids), tuple(report.class_names or ())
    student, start = load_student(config, ids, names)
    reports = Reports(report, start)
    reader = body_reader(student, config.levels)
    if teacher is None or report is None:
        return Detection(student, reader), reports
    teacher_reader = body_reader(teacher, config.levels)
    frozen = DetectorTeacher(teacher, teacher_reader, ids)
    if config.teacher_boxes is not None:
        match_categories(report, teacher.spec.category_ids, ids, names, what="teacher_boxes")
    stages = plan_levels(config, frozen, student, reader)
    published = detection_weights(len(stages), factor=1.0)
    distiller = build_distiller(config.mgd, stages, frozen, published)
    print_plan(stages, frozen, reader, distiller.grouping)
    if not config.trains_heads:
        freeze_untrained(student, reader, distiller.stages)
    task = Detection(
        student,
        reader,
        frozen,
        boxes=config.trains_heads,
        teacher_boxes=config.teacher_boxes,
        distiller=distiller,
    )
    return task, reports


def freeze_untrained(student: RetinaNet, reader: BodyReader, stages: Sequence[Stage]) -> None:
    """Freeze parameters that no matched map depends on; DDP would wait for their gradients."""
    blank = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE)
    with evaluating(student):
        maps = reader.body(student, blank)
    total = torch.stack([maps[stage.index].sum() for stage in stages]).sum()
    trained = [p for p in student.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def plan_levels(
    config: DetectConfig, teacher: DetectorTeacher, student: RetinaNet, reader: BodyReader
) -> list[Stage]:
    """Pair the levels of the two detectors."""
    blank = torch.zeros(1, 3, student.spec.min_size, student.spec.min_size)
    with torch.no_grad(), evaluating(student):
        maps = teacher.reader.body(teacher.network, blank), reader.body(student, blank)
    forms: list[Form] = [
        "linear" if i in reader.linear else "rectified" for i in range(len(reader.names))
    ]
    return plan_stages(*maps, reader.names, config.mgd.ignore, forms)
