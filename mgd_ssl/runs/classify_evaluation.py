"""``mgd-ssl classify --evaluate``: the accuracy of checkpoints, without training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mgd_ssl.data import ImageSource, NoValidationError, data_line, eval_transform, open_sources
from mgd_ssl.distributed import from_first
from mgd_ssl.evaluation.accuracy import classifier_accuracy
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import KeyReport, load_classifier
from mgd_ssl.runs.overwriting import evaluation_file
from mgd_ssl.runs.val_part import split_off_val
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.options import named
from mgd_ssl.training.class_names import count_classes, match_classes
from mgd_ssl.training.devices import place, settled, start_fabric
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.run_files import classifier_beside
from mgd_ssl.training.same_run import located


@dataclass(frozen=True)
class Measured:
    """A network that is measured.

    Attributes:
        role: "student" or "teacher".
        source: its checkpoint, or the name of published weights.
        network: a classifier of the data's classes.
        report: of its file.
        size: side of the images that it sees, in pixels.
    """

    role: str
    source: Path
    network: nn.Module
    report: KeyReport
    size: int

    @property
    def settings(self) -> dict[str, Any]:
        """What changes its figures besides the images."""
        start = "" if self.role == "student" else f"{self.role}_"
        report = self.report
        found = {"size": self.size, "network": report.spec.to_dict()}
        found |= {"mean": list(report.mean), "std": list(report.std)}
        return {f"{start}{name}": value for name, value in found.items()}


def evaluate(config: ClassifyConfig) -> list[dict[str, Any]]:
    """Measure the student and, where one is given, the teacher; print, and write JSON."""
    start_logging()
    config = replace(located(config), device=settled(config.device))
    fabric = start_fabric(config.device)
    val, split = open_val(config)
    if fabric.is_global_zero:
        logger.info(data_line({"accuracy": val}))
    networks = load_networks(config, val)
    result = settings(config, networks, split)
    path = from_first(lambda: _file(config, result))
    rows = [measure(config, network, val, fabric) for network in networks]
    if fabric.is_global_zero:
        shown = [{k: v for k, v in row.items() if k != "sha256"} for row in rows]
        print_table(f"Accuracy, percent: {val.name}", shown)
        write_json(path, {**result, "rows": rows})
        logger.info("written: %s", path)
    return rows


def _file(config: ClassifyConfig, result: dict[str, Any]) -> Path:
    assert config.student_weights is not None  # the settings' check
    return evaluation_file(config.out, config.student_weights, "accuracy", result)


def settings(
    config: ClassifyConfig, networks: Sequence[Measured], split: str | None
) -> dict[str, Any]:
    """Protocol, and all that changes the figures."""
    return {
        "protocol": "classification, center crop",
        "checkpoint": str(config.student_weights),
        "teacher": config.teacher.teacher and str(config.teacher.teacher),
        "data": named(config.data),
        **config.loader.opening,
        **({"split": split} if split else {}),
        "exif": config.loader.exif,
        "precision": config.device.precision,
        **{name: value for network in networks for name, value in network.settings.items()},
    }


def open_val(config: ClassifyConfig) -> tuple[ImageSource, str | None]:
    """The images that training with the same options measures on; how they were split off."""
    opening = config.loader.opening
    try:
        return open_sources(config.data, "val", labeled=True, **opening), None
    except NoValidationError:
        parts = split_off_val(open_sources(config.data, "train", labeled=True, **opening))
        logger.info("%s", parts.in_words)
        return parts.val, parts.split


def load_networks(config: ClassifyConfig, val: ImageSource) -> list[Measured]:
    """The student and, where one is given, the teacher, each at the size that it is for.

    Raises:
        ValueError: one has no classifier, or one of other classes than the data's.
    """
    sources = [("student", config.student_weights, config.network.spec)]
    sources += [("teacher", config.teacher.teacher, config.teacher.spec)]
    return [
        _load(config, role, source, given, val)
        for role, source, given in sources
        if source is not None
    ]


def _load(
    config: ClassifyConfig, role: str, source: Path, given: dict[str, Any], val: ImageSource
) -> Measured:
    network, report = load_classifier(source, **given)
    if report.classes is None:
        trained = classifier_beside(source)
        if trained:
            raise ValueError(
                f"evaluate: {source} is the backbone alone, expected it with its classifier, which "
                f"is in {trained}: --student-weights {trained}"
            )
        raise ValueError(
            f"evaluate: {source} has no classifier, expected one; train it with mgd-ssl classify, "
            "or measure it with linear_eval.py or knn_eval.py"
        )
    classes = _count_classes(config, val, report.classes)
    differs = match_classes(network, report, classes, val.classes)
    if differs:
        raise ValueError(
            f"evaluate {source}: {differs}, expected the same; measure it on data of its own "
            f"classes, or train it on these: mgd-ssl classify DATA --student-weights {source}"
        )
    size = config.loader.size or report.size or (32 if not config.data else 224)
    return Measured(role, source, network, report, size)


def _count_classes(config: ClassifyConfig, val: ImageSource, outputs: int) -> int:
    """Classes of the data; labels without names are counted up to a classifier's outputs.

    Training counts such labels over both parts, the training part perhaps by a few images of it.
    """
    found = count_classes(val, val)
    if val.classes is not None or outputs <= found:
        return found
    train = open_sources(config.data, "train", **config.loader.opening)
    return found if train.labels is None else min(outputs, count_classes(train, val))


def measure(
    config: ClassifyConfig, measured: Measured, val: ImageSource, fabric: Fabric
) -> dict[str, Any]:
    """The figures of a network, its size, and the SHA-256 of its checkpoint's files."""
    network, report, size = measured.network, measured.report, measured.size
    config = replace(config, loader=replace(config.loader, size=size))
    loader = build_loader(config, fabric, val)
    transform = eval_transform(report.mean, report.std).to(fabric.device)
    place(network, config.device, fabric.device)
    with fabric.autocast():
        found = classifier_accuracy(network, loader, transform=transform, device=fabric.device)
    return {
        "network": measured.role,
        "checkpoint": str(measured.source),
        **found,
        "unreadable": len(val) - found["images"],
        "size": size,
        "sha256": dict(report.sha256),
    }
