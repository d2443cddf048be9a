"""Object detection: the same run with boxes, two detectors and average precision."""

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from lightning.fabric import Fabric
from torch import nn
from torchvision.models.detection import RetinaNet

from mgd_ssl.data import data_line, subset
from mgd_ssl.detection.average_precision import coco_library, detector_ap
from mgd_ssl.detection.categories import check_same_categories, match_categories
from mgd_ssl.detection.loading import DetectionLoader
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.detection.parts import build_detection, load_teacher, load_weights
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.detection.task import Detection
from mgd_ssl.detection.training_data import DetectionData, make_loader
from mgd_ssl.evaluation import print_table, write_json
from mgd_ssl.matching import detection_iterations
from mgd_ssl.models import BackboneSpec
from mgd_ssl.runs.outputs import refuse_other
from mgd_ssl.training.checkpoint import export_student
from mgd_ssl.training.checks import check_batch
from mgd_ssl.training.devices import convert_sync_bn, start_fabric
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.run import TrainingRun
from mgd_ssl.training.same_run import located
from mgd_ssl.training.schedules import learning_rate
from mgd_ssl.training.starting import start_run


def run(config: DetectConfig) -> None:
    """Train a detector, or with ``--evaluate`` measure one."""
    if config.evaluate:
        evaluate(config)
    else:
        config = located(config)
        build(config, start_run(config)).train()


def build(config: DetectConfig, fabric: Fabric) -> "DetectRun":
    """The parts of a run, each checked."""
    source, val = open_sources(config)
    check_batch(config, source, fabric.world_size)
    if fabric.is_global_zero:
        uses = {"training": source} | ({"average precision": val} if val else {})
        logger.info(data_line(uses))
    task = build_detection(config, source)
    if config.sync_bn:
        convert_sync_bn(task, fabric)
    return DetectRun(config, fabric, task, DetectionData(config, fabric, source), val)


def open_sources(config: DetectConfig) -> tuple[DetectionSource, DetectionSource | None]:
    """Training images, and annotated validation images where the run can be measured on some."""
    source = open_detection(
        config.data, "train", annotated=not config.unlabelled, **config.loader.opening
    )
    if config.loader.limit:
        source = subset(source, config.loader.limit)
    if not config.unlabelled:
        val = open_detection(config.data, "val", **config.loader.opening)
        check_same_categories(source, val)
        return source, val
    if config.teacher_boxes is None:  # the heads are not trained
        return source, None
    try:
        return source, open_detection(config.data, "val", **config.loader.opening)
    except ValueError as error:
        logger.info("no average precision, for want of annotated val images: %s", error)
        return source, None


class DetectRun(TrainingRun[DetectConfig, Detection]):
    """Images and boxes, flipped at random; average precision as training goes."""

    metric = "val_AP"

    def __init__(
        self,
        config: DetectConfig,
        fabric: Fabric,
        task: Detection,
        data: DetectionData,
        val: DetectionSource | None,
    ) -> None:
        steps = len(data.loader)
        warmup = min(config.optim.warmup_steps / steps, config.optim.epochs - 1)
        rate, freq = learning_rate(config.optim, warmup=warmup), config.mgd.mgd_update_freq
        total = rate.epochs * steps
        solve_at = range(0, total, freq) if freq else detection_iterations(total)
        super().__init__(config, fabric, task, data, rate, solve_at)
        self.val = val
        self.val_loader = make_loader(config, fabric, val) if val else None
        if val:
            coco_library()  # refused before an epoch is spent, not after

    def measure(self, epoch: int) -> dict[str, float]:
        """COCO's figures over all validation images."""
        due = (epoch + 1) % self.config.val_every == 0 or epoch + 1 == self.loop.epochs
        if self.val is None or self.val_loader is None or not due:
            return {}
        # without autocast, in which torchvision's boxes would be of half precision too
        found = ap_of(self.task.student, self.val, self.val_loader, self.fabric)
        return {f"val_{name}": figure for name, figure in found.items()}

    def networks(self) -> dict[str, Any]:
        """The detector under torchvision's keys, and what it takes to build it."""
        student = cast(RetinaNet, self.task.student)
        body, transform = body_spec(student), student.transform
        normalisation = {"mean": list(transform.image_mean), "std": list(transform.image_std)}
        return {
            "arch": body.arch,
            "state_dict": student.state_dict(),
            "detector": student.spec.to_dict(),
            "backbone": body.to_dict(),
            "classes": student.class_names,
            "normalisation": normalisation,
            "size": student.spec.min_size,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """The detector."""
        self.restore_network(self.task.student, content["state_dict"])

    def export(self, directory: Path) -> None:
        """The backbone alone, where it is torchvision's; last.pt and best.pt hold the detector."""
        content = self.networks()
        student = cast(RetinaNet, self.task.student)
        if student.spec.stride_in_1x1 or student.spec.norm_eps != 1e-5:
            return  # torchvision's network of these keys would compute something else
        export_student(
            directory / "student.safetensors",
            student.backbone.body.state_dict(),
            body_spec(student),
            content["normalisation"],
            content["size"],
        )


def body_spec(detector: RetinaNet) -> BackboneSpec:
    """What builds a detector's body alone."""
    names = (f.name for f in fields(BackboneSpec))
    return BackboneSpec(**{name: getattr(detector.spec, name) for name in names})


def ap_of(
    network: nn.Module, source: DetectionSource, loader: DetectionLoader, fabric: Fabric
) -> dict[str, float]:
    """Average precision of a detector of this project."""
    ids = cast(Any, network).spec.category_ids
    return detector_ap(network, source, loader, category_ids=ids, device=fabric.device)


def evaluate(config: DetectConfig) -> list[dict[str, Any]]:
    """Measure the student and, where one is given, the teacher; print, and write JSON to --out."""
    start_logging()
    fabric = start_fabric(config.device)
    config = located(config)
    result = {
        "protocol": "COCO AP, at most 100 boxes an image",
        "checkpoint": str(config.student_weights),
        "data": str(config.data or "scenes of Fashion-MNIST"),
    }
    if config.out:
        refuse_other(config.out / "ap.json", result)
    val = open_detection(config.data, "val", **config.loader.opening)
    if fabric.is_global_zero:
        logger.info(data_line({"average precision": val}))
    loader, rows = make_loader(config, fabric, val), []
    networks = {"student": load_weights(config)}
    if config.teacher.teacher:
        networks["teacher"] = load_teacher(config)
    for name, (network, report) in networks.items():
        ids = network.spec.category_ids
        match_categories(report, ids, val.category_ids, val.classes, what=name)
        found = ap_of(network.to(fabric.device).eval(), val, loader, fabric)
        counts = {f"val_{key}": found.pop(key) for key in ("images", "unreadable")}
        rows.append({"network": name, **found})
    if fabric.is_global_zero:
        covered = f"{counts['val_images']:,} of {len(val):,} images"
        print_table(f"Average precision, per cent, {covered}: {val.name}", rows)
        if config.out:
            path = write_json(config.out / "ap.json", {**result, **counts, "rows": rows})
            logger.info("written: %s", path)
    return rows
