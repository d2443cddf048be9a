"""``mgd-ssl detect``: train a detector on images with boxes, alone or from a teacher."""

from pathlib import Path
from typing import Any, cast

from torchvision.models.detection import RetinaNet

from mgd_ssl.data import data_line, subset
from mgd_ssl.detection.average_precision import coco_library, detector_ap
from mgd_ssl.detection.building import build_detection
from mgd_ssl.detection.categories import check_same_categories, match_categories
from mgd_ssl.detection.evaluation import evaluate
from mgd_ssl.detection.opening import open_detection
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.detection.task import Detection
from mgd_ssl.detection.training_data import DetectionData, make_loader
from mgd_ssl.fabric import Fabric
from mgd_ssl.matching import detection_iterations
from mgd_ssl.runs.next_steps import detector_steps
from mgd_ssl.training.checkpoint import export_student
from mgd_ssl.training.checks import check_readable, with_batch
from mgd_ssl.training.devices import convert_sync_bn
from mgd_ssl.training.logging import logger
from mgd_ssl.training.run import TrainingRun
from mgd_ssl.training.run_files import STUDENT, best_of
from mgd_ssl.training.same_run import located
from mgd_ssl.training.schedules import learning_rate
from mgd_ssl.training.starting import start_run
from mgd_ssl.training.student_weights import Reports

RATE = 1e-3  # of a short run; docs/log.md
WARMUP = 0.1  # of a run, at most


def run(config: DetectConfig) -> None:
    """Train a detector, or with ``--evaluate`` measure one."""
    if config.evaluate:
        evaluate(config)
    else:
        build(*start_run(located(config))).train()


def build(config: DetectConfig, fabric: Fabric) -> "DetectRun":
    """Open the data, build the networks and check that they fit each other."""
    source, val = open_sources(config)
    config = with_batch(config, source, fabric.world_size)
    if fabric.is_global_zero:
        uses = {"training": source} | ({"average precision": val} if val else {})
        logger.info(data_line(uses))
    if val:
        check_readable(val, "average precision", config.loader.exif)
    task, reports = build_detection(config, source)
    if val and config.unlabeled and reports.teacher:  # the student has the teacher's categories
        ids = cast(RetinaNet, task.student).spec.category_ids
        match_categories(reports.teacher, ids, val.category_ids, val.classes, what="teacher")
    if config.sync_bn:
        convert_sync_bn(task, fabric)
    return DetectRun(config, fabric, task, DetectionData(config, fabric, source), val, reports)


def open_sources(config: DetectConfig) -> tuple[DetectionSource, DetectionSource | None]:
    """Training images, and validation images if they can be used to measure the student."""
    source = open_detection(
        config.place, "train", annotated=not config.unlabeled, **config.loader.opening
    )
    if config.loader.limit:
        source = subset(source, config.loader.limit)
    if not config.unlabeled:
        val = open_detection(config.place, "val", **config.loader.opening)
        check_same_categories(source, val)
        return source, val
    if config.teacher_boxes is None:  # the heads are not trained
        return source, None
    try:
        return source, open_detection(config.place, "val", **config.loader.opening)
    except ValueError as error:
        logger.info("average precision is not measured without annotated val images: %s", error)
        return source, None


class DetectRun(TrainingRun[DetectConfig, Detection]):
    """Trains a detector, and measures its average precision during training."""

    metric = "val_AP"

    def __init__(
        self,
        config: DetectConfig,
        fabric: Fabric,
        task: Detection,
        data: DetectionData,
        val: DetectionSource | None,
        reports: Reports,
    ) -> None:
        steps = len(data.loader)
        warmup = min(config.optim.warmup_steps / steps, config.optim.epochs * WARMUP)
        rate = learning_rate(config.optim, steps, RATE, warmup=warmup)
        freq = config.mgd.mgd_update_freq
        total = rate.epochs * steps
        solve_at = range(0, total, freq) if freq else detection_iterations(total)
        super().__init__(config, fabric, task, data, rate, solve_at)
        self.val, self.reports = val, reports
        self.val_loader = make_loader(config, fabric, val) if val else None
        if not val:
            self.metric = ""  # nothing chooses best.pt, which is the last epoch's then
        else:
            coco_library()  # a missing package is refused before the first epoch, not after it

    def measure(self, epoch: int) -> dict[str, float]:
        """COCO's figures on all validation images, after every ``--val-every`` epochs."""
        due = (epoch + 1) % self.config.val_every == 0 or epoch + 1 == self.loop_config.epochs
        if self.val is None or self.val_loader is None or not due:
            return {}
        # outside autocast, which would leave torchvision's boxes in half precision
        student: Any = self.task.student
        found = detector_ap(
            student,
            self.val,
            self.val_loader,
            category_ids=student.spec.category_ids,
            device=self.fabric.device,
        )
        return {f"val_{name}": figure for name, figure in found.items()}

    def networks(self) -> dict[str, Any]:
        """The detector under torchvision's keys, and everything needed to rebuild it."""
        student = cast(RetinaNet, self.task.student)
        body, transform = student.spec.body, student.transform
        normalization = {"mean": list(transform.image_mean), "std": list(transform.image_std)}
        return {
            "arch": body.arch,
            "state_dict": student.state_dict(),
            "detector": student.spec.to_dict(),
            "backbone": body.to_dict(),
            "classes": student.class_names,
            "normalisation": normalization,
            "size": student.spec.min_size,
            "provenance": self.reports.provenance,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Load the detector."""
        self.restore_network(self.task.student, content["state_dict"])

    def result(self) -> str:
        """Where the detector is, and the backbone alone."""
        if not self.config.trains_heads:
            return super().result()
        run = self.directory.path
        return f"the detector is {best_of(run)}; its backbone alone is {run / STUDENT}"

    def next_steps(self) -> str:
        """The command that measures the detector, and the lines that load it."""
        if not self.config.trains_heads:
            return ""
        return detector_steps(best_of(self.directory.path), self.config, self.task.student)

    def export(self, directory: Path) -> None:
        """Write the backbone; the detector itself is in last.pt and best.pt."""
        content = self.networks()
        student = cast(RetinaNet, self.task.student)
        if student.spec.stride_in_1x1 or student.spec.norm_eps != 1e-5:
            return  # torchvision's network with these keys would compute something else
        export_student(
            directory / "student.safetensors",
            student.backbone.body.state_dict(),
            student.spec.body,
            content["normalisation"],
            content["size"],
            content["provenance"],
        )
