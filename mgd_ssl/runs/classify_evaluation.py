"""``mgd-ssl classify --evaluate``: the accuracy of checkpoints, without training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mgd_ssl.data import ImageSource, NoValidationError, data_line, eval_transform, open_sources
from mgd_ssl.distributed import from_first
from mgd_ssl.evaluation.accuracy import classifier_accuracy
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import load_classifier
from mgd_ssl.runs.overwriting import evaluation_file
from mgd_ssl.runs.val_part import split_off_val
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.options import named
from mgd_ssl.training.class_names import count_classes, match_classes
from mgd_ssl.training.devices import place, settled, start_fabric
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.same_run import located


def evaluate(config: ClassifyConfig) -> list[dict[str, Any]]:
    """Measure the student and, where one is given, the teacher; print, and write JSON."""
    start_logging()
    config = replace(located(config), device=settled(config.device))
    fabric = start_fabric(config.device)
    result = {
        "protocol": "classification, centre crop",
        "checkpoint": str(config.student_weights),
        "data": named(config.data),
    }
    path = from_first(lambda: _file(config, result))
    val, rows = open_val(config), []
    if fabric.is_global_zero:
        logger.info(data_line({"accuracy": val}))
    sources = [("student", config.student_weights, config.network.spec)]
    sources += [("teacher", config.teacher.teacher, config.teacher.spec)]
    for name, source, given in sources:
        if source is not None:
            found = evaluate_one(config, source, given, val, fabric)
            rows.append({"network": name, "checkpoint": str(source), **found})
    if fabric.is_global_zero:
        shown = [{k: v for k, v in row.items() if k != "sha256"} for row in rows]
        print_table(f"Accuracy, percent: {val.name}", shown)
        write_json(path, {**result, "rows": rows})
        logger.info("written: %s", path)
    return rows


def _file(config: ClassifyConfig, result: dict[str, Any]) -> Path:
    assert config.student_weights is not None  # the settings' check
    return evaluation_file(config.out, config.student_weights, "accuracy", result)


def open_val(config: ClassifyConfig) -> ImageSource:
    """The images that training with the same options measures on."""
    opening = config.loader.opening
    try:
        return open_sources(config.data, "val", labelled=True, **opening)
    except NoValidationError:
        parts = split_off_val(open_sources(config.data, "train", labelled=True, **opening))
        logger.info("%s", parts.in_words)
        return parts.val


def evaluate_one(
    config: ClassifyConfig, source: Path, given: dict[str, Any], val: ImageSource, fabric: Fabric
) -> dict[str, Any]:
    """Accuracy of a checkpoint or of published weights, at the size that they are for.

    Returns:
        The figures, the size, and the SHA-256 of the checkpoint's files.

    Raises:
        ValueError: it has no classifier.
    """
    network, report = load_classifier(source, **given)
    if report.classes is None:
        raise ValueError(
            f"evaluate: {source} has no classifier, expected one; train it with mgd-ssl classify, "
            "or measure it with linear_eval.py or knn_eval.py"
        )
    classes = count_classes(val, val)
    differs = match_classes(network, report, classes, val.classes)
    if differs:
        raise ValueError(
            f"evaluate {source}: {differs}, expected the same; measure it on data of its own "
            f"classes, or train it on these: mgd-ssl classify DATA --student-weights {source}"
        )
    size = config.loader.size or report.size or (32 if not config.data else 224)
    config = replace(config, loader=replace(config.loader, size=size))
    loader = build_loader(config, fabric, val)
    transform = eval_transform(report.mean, report.std).to(fabric.device)
    place(network, config.device, fabric.device)
    with fabric.autocast():
        found = classifier_accuracy(network, loader, transform=transform, device=fabric.device)
    return {
        **found,
        "unreadable": len(val) - found["images"],
        "size": size,
        "sha256": dict(report.sha256),
    }
