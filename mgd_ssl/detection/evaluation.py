"""``mgd-ssl detect --evaluate``: the average precision of detectors, without training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mgd_ssl.data import data_line
from mgd_ssl.detection.average_precision import detector_ap
from mgd_ssl.detection.categories import match_categories
from mgd_ssl.detection.networks import load_teacher, load_weights
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.training_data import make_loader
from mgd_ssl.distributed import from_first
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.runs.overwriting import evaluation_file
from mgd_ssl.settings.options import named
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.same_run import located


def evaluate(config: DetectConfig) -> list[dict[str, Any]]:
    """Measure the student and a given teacher, print the figures, and write them as JSON."""
    start_logging()
    fabric = start_fabric(replace(config.device, precision="32"))
    config = located(config)
    result = {
        "protocol": "COCO AP, at most 100 boxes an image",
        "checkpoint": str(config.student_weights),
        "data": named(config.data, "scenes of Fashion-MNIST"),
    }
    path = from_first(lambda: _file(config, result))
    val = open_detection(config.place, "val", **config.loader.opening)
    if fabric.is_global_zero:
        logger.info(data_line({"average precision": val}))
    loader, rows = make_loader(config, fabric, val), []
    networks = {"student": load_weights(config)}
    if config.teacher.teacher:
        networks["teacher"] = load_teacher(config)
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
