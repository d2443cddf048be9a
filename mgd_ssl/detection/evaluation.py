"""``mgd-ssl detect --evaluate``: the average precision of detectors, without training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torchvision.models.detection import RetinaNet

from mgd_ssl.data import data_line
from mgd_ssl.detection.average_precision import detector_ap
from mgd_ssl.detection.categories import match_categories
from mgd_ssl.detection.networks import load_teacher, load_weights
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.detection.retinanet import DetectorSpec
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.training_data import make_loader
from mgd_ssl.distributed import from_first
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.models import KeyReport
from mgd_ssl.runs.overwriting import evaluation_file
from mgd_ssl.settings.options import named
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.loaders import images_per_process
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.same_run import located

Networks = Mapping[str, tuple[RetinaNet, KeyReport]]


def evaluate(config: DetectConfig) -> list[dict[str, Any]]:
    """Measure the student and a given teacher, print the figures, and write them as JSON."""
    start_logging()
    fabric = start_fabric(replace(config.device, precision="32"))
    config = located(config)
    val = open_detection(config.place, "val", **config.loader.opening)
    if fabric.is_global_zero:
        logger.info(data_line({"average precision": val}))
    networks = {"student": load_weights(config)}
    if config.teacher.teacher:
        networks["teacher"] = load_teacher(config)
    result = settings(config, networks, images_per_process(config, fabric))
    path = from_first(lambda: _file(config, result))
    loader, rows = make_loader(config, fabric, val), []
    for name, (network, report) in networks.items():
        ids = network.spec.category_ids
        match_categories(report, ids, val.category_ids, val.classes, what=name)
        network = network.to(fabric.device)
        found = detector_ap(network, val, loader, category_ids=ids, device=fabric.device)
        counts = {f"val_{key}": found.pop(key) for key in ("images", "unreadable")}
        rows.append({"network": name, **found, "sha256": dict(report.sha256)})
    if fabric.is_global_zero:
        covered = f"{counts['val_images']:,} of {len(val):,} images"
        shown = [{k: v for k, v in row.items() if k != "sha256"} for row in rows]
        print_table(f"Average precision, percent, {covered}: {val.name}", shown)
        write_json(path, {**result, **counts, "rows": rows})
        logger.info("written: %s", path)
    return rows


def _file(config: DetectConfig, result: dict[str, Any]) -> Path:
    assert config.student_weights is not None  # the settings' check
    return evaluation_file(config.out, config.student_weights, "ap", result)


def settings(config: DetectConfig, networks: Networks, at_once: int) -> dict[str, Any]:
    """Protocol, and all that changes the figures.

    Args:
        config: of the evaluation.
        networks: that are measured.
        at_once: images of a batch, which are padded to the largest of them.
    """
    return {
        "protocol": "COCO AP, at most 100 boxes an image",
        "checkpoint": str(config.student_weights),
        "teacher": config.teacher.teacher and str(config.teacher.teacher),
        "data": named(config.data, "scenes of Fashion-MNIST"),
        **config.loader.opening,
        "exif": config.loader.exif,
        "batch_size": at_once,
        "precision": "32",
        **{k: v for role, (_, report) in networks.items() for k, v in _own(role, report).items()},
    }


def _own(role: str, report: KeyReport) -> dict[str, Any]:
    """What a detector's figures depend on besides the images."""
    start, spec = "" if role == "student" else f"{role}_", cast(DetectorSpec, report.spec)
    found = {"min_size": spec.min_size, "max_size": spec.max_size, "network": spec.to_dict()}
    return {f"{start}{name}": value for name, value in found.items()}
