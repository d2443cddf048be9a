"""The student and the teacher of a detection run."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from torchvision.models.detection import RetinaNet

from mgd_ssl.detection.categories import match_categories
from mgd_ssl.detection.checkpoints import load_body, load_detector
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector, freeze_stem
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.models import KeyReport
from mgd_ssl.training.logging import logger


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
