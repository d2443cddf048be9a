"""The teacher of a classifier: its checkpoint, its classifier, and what of it is distilled."""

from contextlib import suppress
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from mgd_ssl.models import (
    BackboneSpec,
    KeyReport,
    Taps,
    head_of,
    load_classifier,
    pool,
    probe,
    without_head,
)
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.training.class_names import Names, match_classes
from mgd_ssl.training.distillation import Distillation, make_teacher, match_maps, teacher_size
from mgd_ssl.training.logging import logger


def load_teacher(
    config: ClassifyConfig, classes: int, names: Names = None
) -> tuple[nn.Module, KeyReport] | None:
    """The teacher with its classifier, where it has one of these classes, in the data's order.

    Raises:
        ValueError: ``--kd`` finds no classifier, or one of other classes.
    """
    options = config.teacher
    if options.teacher is None:
        return None
    network, report = load_classifier(options.teacher, **options.spec)
    if report.classes is None and config.kd.kd:
        raise ValueError(
            f"teacher {options.teacher}: it has no classifier, expected one of {classes} classes "
            f"for --kd; {_fine_tune(config)}, or leave --kd out"
        )
    differs = report.classes and match_classes(network, report, classes, names)
    if differs and config.kd.kd:
        raise ValueError(
            f"teacher {options.teacher}: {differs}, expected the same for --kd; "
            f"{_fine_tune(config)}, or leave --kd out"
        )
    if differs:
        logger.info("teacher: %s; it is not used, as the maps alone are matched", differs)
        report = replace(report, classes=None, class_names=None)
    return network, report


def _fine_tune(config: ClassifyConfig) -> str:
    return (
        "fine-tune it on this data first: mgd-ssl classify DATA -a ARCH --student-weights "
        f"{config.teacher.teacher}"
    )


def distill(
    config: ClassifyConfig, network: nn.Module, report: KeyReport, student: nn.Module
) -> Distillation:
    """The frozen teacher and, where maps are matched, the student's reader and the distiller."""
    matched, size = config.mgd.is_matched, teacher_size(config)
    probe(network, Taps([]), size, "--teacher-size")
    teacher = make_teacher(config.teacher, size, network, report, matched)
    if config.kd.kd and config.teacher_cache:
        check_head(network, size)
    if matched:
        return match_maps(config, teacher, student)
    return {"teacher": teacher}


@torch.no_grad()
def check_head(teacher: nn.Module, size: int) -> None:
    """Refuse a teacher whose logits do not follow from its pooled features, which a cache holds.

    Raises:
        ValueError: names the architecture.
    """
    image = torch.zeros(1, 3, size, size)
    with without_head(teacher):
        features = pool(teacher(image))
    logits, found = teacher(image), None
    with suppress(RuntimeError):  # a head of other inputs
        found = head_of(teacher)(features)
    if found is None or found.shape != logits.shape or not torch.allclose(found, logits, atol=1e-4):
        raise ValueError(
            f"teacher: got --kd and --teacher-cache with {cast(BackboneSpec, teacher.spec).arch}, "
            "whose classifier does not read the pooled features that a cache holds; leave out "
            "--kd, or --teacher-cache"
        )
