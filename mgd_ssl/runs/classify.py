"""Supervised classification: the pretraining's run with labels, logits and top-1."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from mgd_ssl.data import (
    ImageLoader,
    ImageSource,
    data_line,
    eval_transform,
    open_sources,
    subset,
)
from mgd_ssl.data.fractions import label_fraction
from mgd_ssl.evaluation.accuracy import Accuracy, classifier_accuracy
from mgd_ssl.fabric import Fabric
from mgd_ssl.matching import evenly_spaced_epochs
from mgd_ssl.models import (
    BackboneSpec,
    KeyReport,
    backbone_state,
    create_classifier,
    load_classifier,
)
from mgd_ssl.runs.classify_evaluation import evaluate
from mgd_ssl.runs.classify_teacher import distill, load_teacher
from mgd_ssl.runs.image_data import image_data, look_at_cache
from mgd_ssl.runs.next_steps import classifier_steps
from mgd_ssl.runs.val_part import with_val_part
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.tasks.classification import Classification
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.checkpoint import export_backbone
from mgd_ssl.training.checks import (
    check_enlarged,
    check_norms,
    check_readable,
    check_teacher,
    with_batch,
)
from mgd_ssl.training.class_names import Names, count_classes, match_classes
from mgd_ssl.training.devices import convert_sync_bn
from mgd_ssl.training.distillation import Distillation, student_input, teacher_size
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import say_inputs
from mgd_ssl.training.run import TrainingRun
from mgd_ssl.training.run_files import STUDENT, best_of
from mgd_ssl.training.same_run import located
from mgd_ssl.training.schedules import learning_rate, pretraining_rate
from mgd_ssl.training.starting import start_run
from mgd_ssl.training.student_weights import Reports, refuse_teachers_own, say_start
from mgd_ssl.training.training_data import ImageData, before_epochs

FROM_WEIGHTS = 1e-3  # rates of a short run; docs/log.md
FROM_SCRATCH = 4e-3


def run(config: ClassifyConfig) -> None:
    """Train a classifier, or with ``--evaluate`` measure one."""
    if config.evaluate:
        evaluate(config)
    else:
        config, fabric = start_run(located(config))
        look_at_cache(config, fabric)
        build(config, fabric).train()


def build(config: ClassifyConfig, fabric: Fabric) -> "ClassifyRun":
    """The parts of a run, each checked."""
    source, val = open_labeled(config)
    config = with_batch(config, source, fabric.world_size)
    check_enlarged(source, config.loader.size)
    check_readable(val, "top-1", config.loader.exif)
    classes = count_classes(source, val)
    teacher = load_teacher(config, classes, source.classes)
    student, start = build_student(config, classes, source.classes)
    reports = Reports(teacher[1] if teacher else None, start)
    refuse_teachers_own(reports)
    distillation = distill(config, *teacher, student) if teacher else Distillation()
    if teacher:
        frozen, loader = cast(Teacher, distillation["teacher"]), config.loader
        check_teacher(frozen, loader.size, source, loader.exif, config.seed)
        say_inputs(
            config.loader.size, teacher_size(config), cast(BackboneSpec, student.spec), teacher[1]
        )
    task = Classification(
        student,
        student_input(config.loader),
        kd_weight=config.kd.kd_weight if config.kd.kd else 0.0,
        kd_temperature=config.kd.kd_t,
        cached=config.teacher_cache is not None,
        **distillation,
    )
    parts = config.optim.accumulate * (1 if config.sync_bn else fabric.world_size)
    images = config.optim.batch_size // parts
    check_norms(task, config.loader.size, images, 2 * parts)
    if config.sync_bn:
        convert_sync_bn(task, fabric)
    if fabric.is_global_zero:
        logger.info(data_line({"training": source, "top-1": val}))
    report = teacher[1] if teacher else None
    data = image_data(config, fabric, source, task.teacher, report, labeled=True)
    config = replace(config, cache_views=data.stored_views)  # a cache may grow before --resume
    return ClassifyRun(config, fabric, task, data, val, teacher, reports)


def open_labeled(config: ClassifyConfig) -> tuple[ImageSource, ImageSource]:
    """Training images, as many as the options say, and all validation images."""
    opening = config.loader.opening
    source = open_sources(config.data, "train", labeled=True, **opening)
    parts = with_val_part(source, config.data, opening)
    if parts.split:
        logger.info("%s", parts.in_words)
    source = subset(parts.train, config.loader.limit) if config.loader.limit else parts.train
    source = label_fraction(source, config.label_fraction, config.seed)
    if config.label_fraction < 1:
        logger.info("%d labeled images (%g of all)", len(source), config.label_fraction)
    return source, parts.val


def build_student(
    config: ClassifyConfig, classes: int, names: Names = None
) -> tuple[nn.Module, KeyReport | None]:
    """A new network, or one that starts from ``--student-weights``, and what was read of these.

    The classifier of those weights is kept where it is of the same classes.
    """
    if config.student_weights is None:
        return create_classifier(classes, **config.network.spec), None
    network, report = load_classifier(config.student_weights, **config.network.spec)
    say_start(report, config.loader)
    differs = report.classes and match_classes(network, report, classes, names)
    if report.classes and not differs:
        return network, report
    why = f": of {report.path}, {differs}" if differs else ""
    logger.info("the classifier of %d classes is new%s", classes, why)
    student = create_classifier(classes, **report.spec.to_dict())
    student.load_state_dict(backbone_state(network), strict=False)  # all but the classifier
    return student, report


class ClassifyRun(TrainingRun[ClassifyConfig, Classification]):
    """One view of each labeled image; top-1 and top-5 as training goes."""

    metric = "val_top1"

    def __init__(
        self,
        config: ClassifyConfig,
        fabric: Fabric,
        task: Classification,
        data: ImageData,
        val: ImageSource,
        teacher: tuple[nn.Module, KeyReport] | None,
        reports: Reports,
    ) -> None:
        fresh = min(FROM_SCRATCH, pretraining_rate(task.student))
        short = FROM_WEIGHTS if config.student_weights else fresh
        rate = learning_rate(config.optim, len(data.loader), short, extend=True)
        epochs = evenly_spaced_epochs(rate.epochs, config.mgd.mgd_update_freq or 2)
        super().__init__(config, fabric, task, data, rate, before_epochs(epochs, data.loader))
        self.teacher, self.reports = teacher, reports
        self.val = build_loader(config, fabric, val)

    def prepare(self) -> dict[str, float]:
        """How good the teacher is."""
        if self.teacher and self.teacher[1].classes:
            network, report = self.teacher
            source, size = self.val.guard.source, teacher_size(self.config)
            images = build_loader(self.config, self.fabric, source, size=size)
            found = self.accuracy(network, images, report.mean, report.std)
            logger.info(
                "teacher: top-1 %.2f %%, top-5 %.2f %%, %d of %d images",
                *(found["top1"], found["top5"], found["images"], len(self.val.guard.source)),
            )
            return {"teacher_top1": found["top1"], "teacher_top5": found["top5"]}
        return {}

    def measure(self, epoch: int) -> dict[str, float]:
        """Top-1 and top-5 over all validation images."""
        if (epoch + 1) % self.config.val_every and epoch + 1 != self.loop_config.epochs:
            return {}
        loader = self.config.loader
        found = self.accuracy(self.task.student, self.val, loader.mean, loader.std)
        figures = {f"val_{name}": float(figure) for name, figure in found.items()}  # type: ignore[arg-type]
        return figures | {"val_unreadable": float(len(self.val.guard.source) - found["images"])}

    def accuracy(self, network: nn.Module, images: ImageLoader, mean: Any, std: Any) -> Accuracy:
        """Accuracy of a network on images under the evaluation transform."""
        transform = eval_transform(mean, std).to(self.fabric.device)
        with self.fabric.autocast():
            return classifier_accuracy(
                network, images, transform=transform, device=self.fabric.device
            )

    def networks(self) -> dict[str, Any]:
        """The student under torchvision's or timm's keys, and what it takes to build it."""
        student, loader = self.task.student, self.config.loader
        spec = cast(BackboneSpec, student.spec)
        return {
            "arch": spec.arch,
            "state_dict": student.state_dict(),
            "backbone": spec.to_dict(),
            "classes": self.data.source.classes,
            "normalisation": loader.normalization,
            "size": loader.size,
            "provenance": self.reports.provenance,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """The student."""
        self.restore_network(self.task.student, content["state_dict"])

    def export(self, directory: Path) -> None:
        """The student without its classifier; last.pt and best.pt have it."""
        export_backbone(self.config, self.task.student, directory, self.reports.provenance)

    def result(self) -> str:
        """Where the classifier is, and its backbone alone."""
        run = self.directory.path
        return f"the classifier is {best_of(run)}; its backbone alone is {run / STUDENT}"

    def next_steps(self) -> str:
        """The commands that measure the classifier and export it."""
        return classifier_steps(best_of(self.directory.path), self.config, self.task.student)
