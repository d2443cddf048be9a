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
    """Load the teacher from published weights or a checkpoint."""
    assert config.teacher.teacher is not None
    msra = True if config.teacher_caffe else None
    network, report = load_detector(
        config.teacher.teacher, msra=msra, **_given(config.teacher.spec)
    )
    logger.info("teacher %s", report)
    return network, report


def load_student(
    config: DetectConfig, ids: Sequence[int], names: Sequence[str]
) -> tuple[RetinaNet, KeyReport | None]:
    """Create the student, from its own weights, a backbone's or none.

    Args:
        config: of the run.
        ids: COCO ids of the student's categories.
        names: their names, which the student gets as ``class_names``; empty if unknown.

    Returns:
        The student, and what was read of the file that it starts from, if it does.

    Raises:
        ValueError: ``--student-weights`` has other categories.
    """
    if config.student_weights:
        student, report = load_weights(config)
        own = tuple(student.spec.category_ids)
        match_categories(report, own, ids, names, what="student_weights")
        if own != tuple(ids):
            raise ValueError(
                f"student_weights: {report.path} finds {len(own)} categories, {own[:5]}, …, the "
                f"data has {len(ids)}, {tuple(ids[:5])}, …, expected the same in the same order. "
                "To start from its backbone alone, use --backbone-weights"
            )
        student.class_names = tuple(names) or report.class_names
        freeze_stem(student)
        return student, report
    options = config.network.spec | _detector_options(config)
    spec = DetectorSpec(**options, category_ids=tuple(ids))
    student = create_detector(spec)
    student.class_names = tuple(names) or None
    if not config.backbone_weights:
        return student, None
    report = load_body(student, config.backbone_weights)
    logger.info("backbone %s", report)
    freeze_stem(student)
    return student, report


def load_weights(config: DetectConfig) -> tuple[RetinaNet, KeyReport]:
    """Load the detector of ``--student-weights``."""
    assert config.student_weights is not None
    given = _given(config.network.spec | _detector_options(config))
    network, report = load_detector(config.student_weights, **given)
    logger.info("student %s", report)
    return network, report


def _detector_options(config: DetectConfig) -> dict[str, Any]:
    return {f.name: getattr(config.detector, f.name) for f in fields(config.detector)}


def _given(spec: dict[str, Any]) -> dict[str, Any]:
    """The properties that the user gave; the file says the others."""
    return {name: value for name, value in spec.items() if value is not None}
