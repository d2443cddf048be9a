"""The parts of a detection run: both detectors and the distiller between them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torchvision.models.detection import RetinaNet

from mgd_ssl.detection.categories import match_categories
from mgd_ssl.detection.checkpoints import load_body, load_detector
from mgd_ssl.detection.reader import BodyReader, body_reader
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector, freeze_stem
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.detection.task import Detection, DetectorTeacher
from mgd_ssl.matching import detection_weights
from mgd_ssl.models import KeyReport, evaluating
from mgd_ssl.models.dict_backbones import PROBE_SIDE
from mgd_ssl.stages import Stage, plan_stages
from mgd_ssl.training.distillation import build_distiller
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import print_plan


def build_detection(config: DetectConfig, source: DetectionSource) -> Detection:
    """Student, teacher and distiller, the student's stem frozen where its weights are given."""
    teacher, report = load_teacher(config) if config.teacher.teacher else (None, None)
    ids, names = tuple(source.category_ids), tuple(source.classes)
    if teacher and report and config.unlabelled:
        ids, names = tuple(teacher.spec.category_ids), tuple(report.class_names or ())
    student = load_student(config, ids, names)
    reader = body_reader(student, config.levels)
    if teacher is None or report is None:
        return Detection(student, reader)
    teacher_reader = body_reader(teacher, config.levels)
    frozen = DetectorTeacher(teacher, teacher_reader, ids)
    if config.teacher_boxes is not None:
        match_categories(report, teacher.spec.category_ids, ids, names, what="teacher_boxes")
    stages = plan_levels(config, frozen, student, reader)
    print_plan(stages, frozen, reader, expands=config.mgd.mgd_adapter == "expand")
    published = detection_weights(len(stages), images=1, factor=1.0)
    distiller = build_distiller(config.mgd, stages, frozen, published)
    boxes = not config.unlabelled or config.teacher_boxes is not None
    if not boxes:
        freeze_untrained(student, reader, distiller.stages)
    return Detection(
        student,
        reader,
        frozen,
        boxes=boxes,
        teacher_boxes=config.teacher_boxes,
        distiller=distiller,
    )


def freeze_untrained(student: RetinaNet, reader: BodyReader, stages: Sequence[Stage]) -> None:
    """Take out what no matched map depends on; several processes wait for every other gradient."""
    blank = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE)
    with evaluating(student):
        maps = reader.body(student, blank)
    total = torch.stack([maps[stage.index].sum() for stage in stages]).sum()
    trained = [p for p in student.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def load_teacher(config: DetectConfig) -> tuple[RetinaNet, KeyReport]:
    """The teacher: published weights by name, or a checkpoint."""
    assert config.teacher.teacher is not None
    msra = True if config.teacher_caffe else None
    network, report = load_detector(config.teacher.teacher, msra=msra, **_said(config.teacher.spec))
    logger.info("teacher %s", report)
    return network, report


def load_student(config: DetectConfig, ids: Sequence[int], names: Sequence[str]) -> RetinaNet:
    """A new detector of these categories, or one that starts from weights; it carries the names.

    Raises:
        ValueError: ``--student-weights`` is of other categories.
    """
    if config.student_weights:
        student, report = load_weights(config)
        own = tuple(student.spec.category_ids)
        match_categories(report, own, ids, names, what="student_weights")
        if own != tuple(ids):
            raise ValueError(
                f"student_weights: {report.path} finds {len(own)} categories, {own[:5]}, …, the "
                f"data has {len(ids)}, {tuple(ids[:5])}, …, expected the same in the same order; "
                "start its backbone alone: --backbone-weights"
            )
        student.class_names = tuple(names) or report.class_names
        freeze_stem(student)
        return student
    options = config.network.spec | _detector_options(config)
    spec = DetectorSpec(**options, category_ids=tuple(ids))
    student = create_detector(spec)
    student.class_names = tuple(names) or None
    if config.backbone_weights:
        logger.info("backbone %s", load_body(student, config.backbone_weights))
        freeze_stem(student)
    return student


def load_weights(config: DetectConfig) -> tuple[RetinaNet, KeyReport]:
    """The detector of ``--student-weights``, as it is."""
    assert config.student_weights is not None
    given = _said(config.network.spec | _detector_options(config))
    network, report = load_detector(config.student_weights, **given)
    logger.info("student %s", report)
    return network, report


def _detector_options(config: DetectConfig) -> dict[str, Any]:
    return {f.name: getattr(config.detector, f.name) for f in fields(config.detector)}


def _said(spec: dict[str, Any]) -> dict[str, Any]:
    """What was said of a network; the file says the rest."""
    return {name: value for name, value in spec.items() if value is not None}


def plan_levels(
    config: DetectConfig, teacher: DetectorTeacher, student: RetinaNet, reader: BodyReader
) -> list[Stage]:
    """Pair the levels of both detectors."""
    blank = torch.zeros(1, 3, student.spec.min_size, student.spec.min_size)
    with torch.no_grad(), evaluating(student):
        maps = teacher.reader.body(teacher.network, blank), reader.body(student, blank)
    norms = teacher.reader.norms(teacher.network)
    return plan_stages(*maps, reader.names, config.mgd.ignore, norms, reader.linear)
