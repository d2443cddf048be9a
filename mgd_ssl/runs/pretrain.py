"""Pretraining: wires data, networks, objective, distiller and loop together."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lightning.fabric import Fabric
from torch import nn

from mgd_ssl.data import ImageSource, Normalize, data_line, open_source, subset
from mgd_ssl.losses.moco import MoCo
from mgd_ssl.matching import evenly_spaced_epochs, unsupervised_epochs
from mgd_ssl.models import (
    BackboneSpec,
    KeyReport,
    Provenance,
    Taps,
    create_backbone,
    load_backbone,
    probe,
    split_batch_norms,
    without_head,
)
from mgd_ssl.objectives import Objective
from mgd_ssl.objectives.objective import WithQueue
from mgd_ssl.runs.pretrain_evaluation import build_health, build_knn, choose_best, hold_out
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.checkpoint import export_backbone
from mgd_ssl.training.checks import check_batch, check_norms, check_queue, check_teacher
from mgd_ssl.training.distillation import Distillation, make_teacher, match_maps
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import say_inputs
from mgd_ssl.training.run import TrainingRun
from mgd_ssl.training.same_run import located
from mgd_ssl.training.schedules import learning_rate
from mgd_ssl.training.starting import start_run
from mgd_ssl.training.training_data import ImageData, before_epochs

# What keys began with in checkpoints that did not have every student as module.encoder_q.
OLDER = (("backbone.", "module.encoder_q."), ("objective.", "module.objective."))


def run(config: PretrainConfig) -> None:
    """Pretrain a student."""
    config = located(config)
    build(config, start_run(config)).train()


def build(config: PretrainConfig, fabric: Fabric) -> "PretrainRun":
    """The parts of a run, each checked."""
    source, held_out = open_images(config)
    check_batch(config, source, fabric.world_size)
    student, report, distillation = build_networks(config, source)
    task = build_task(config, fabric, student, report, distillation)
    if isinstance(config.objective, WithQueue):
        check_queue(config.objective.moco_k, config.optim.batch_size, source)
    data = ImageData(config, fabric, source, config.views, count=config.objective.views)
    run = PretrainRun(config, fabric, task, data, held_out, report)
    if fabric.is_global_zero:
        logger.info(data_line(run.uses(held_out)))
    return run


def open_images(config: PretrainConfig) -> tuple[ImageSource, ImageSource | None]:
    """Images to train on, and those that are held out for the health figures."""
    source = open_source(config.data, "train", **config.loader.opening)
    source, held_out = hold_out(config, source)
    return subset(source, config.loader.limit) if config.loader.limit else source, held_out


def build_networks(
    config: PretrainConfig, source: ImageSource
) -> tuple[nn.Module, KeyReport | None, Distillation]:
    """A new student, what was read of the teacher's file, and the teacher where there is one."""
    options = config.teacher
    loaded = load_backbone(options.teacher, **options.spec) if options.teacher else None
    student = create_backbone(**config.network.spec)
    probe(student, Taps([]), config.loader.size)
    if loaded is None:
        return student, None, {}
    say_inputs(config.loader.size, cast(BackboneSpec, student.spec), loaded[1])
    distillation = distill(config, *loaded, student)
    check_teacher(config, cast(Teacher, distillation["teacher"]), source)
    return student, loaded[1], distillation


def distill(
    config: PretrainConfig, network: nn.Module, report: KeyReport, student: nn.Module
) -> Distillation:
    """The frozen teacher and, where its maps are matched, the student's reader and the distiller.

    Raises:
        ValueError: their maps cannot be matched; says what can be done at once.
    """
    probe(network, Taps([]), config.loader.size)
    if not config.mgd.is_matched:
        return {"teacher": make_teacher(config, network, report, matched=False)}
    try:
        return match_maps(config, make_teacher(config, network, report), student)
    except ValueError as error:
        raise ValueError(f"{error}; or match no maps: {_without_maps(config)}") from error


def build_task(
    config: PretrainConfig,
    fabric: Fabric,
    student: nn.Module,
    report: KeyReport | None,
    distillation: Distillation,
) -> Pretraining:
    """The student with its objective, its batch norms split where keys would leak.

    Raises:
        ValueError: the batch does not suit the processes, the splits, the queue or the norms.
    """
    splits = split_norms(config, student, fabric.world_size)
    loss = config.objective.build(student, report.features if report else 0)
    normalize = Normalize(config.loader.mean, config.loader.std)
    task = Pretraining(student, config.objective, loss, normalize, **distillation)
    parts = fabric.world_size * splits
    images = config.optim.batch_size // parts
    check_norms(task, config.loader.size, images, 2 * parts)
    return task


def _without_maps(config: PretrainConfig) -> str:
    if METHODS[config.method].weighing != "none":
        return "--method simreg, without --mgd-weighing"
    return "leave out --mgd-weighing"


def split_norms(config: PretrainConfig, student: nn.Module, world_size: int) -> int:
    """Split the batch norms where one process contrasts a batch's images with each other.

    Returns:
        Parts of a process's batch that are normalized apart.
    """
    objective = config.objective
    splits = objective.bn_splits or (8 if objective.contrasts and world_size == 1 else 1)
    others = split_batch_norms(student, splits)
    if others and splits > 1:
        logger.warning("%d batch norms cannot be split; keys may leak through them", others)
    _check_batch(config.optim.batch_size, objective, world_size, splits)
    return splits


def _check_batch(batch: int, objective: Objective, world_size: int, splits: int) -> None:
    if batch % (world_size * splits):
        raise ValueError(
            f"batch_size: got {batch} on {world_size} processes with {splits} batch norm splits, "
            f"expected a multiple of {world_size * splits}; change --batch-size or --bn-splits"
        )
    if not isinstance(objective, WithQueue):
        return
    queue = objective.moco_k
    if queue < batch or queue % batch:
        raise ValueError(
            f"moco_k: got a queue of {queue} keys and batches of {batch}, expected a queue "
            f"divisible by the batch; nearest --moco-k {max(1, round(queue / batch)) * batch}"
        )


class PretrainRun(TrainingRun[PretrainConfig, Pretraining]):
    """One or two views of each image; kNN accuracy as training goes."""

    metric = "val_knn_top1"

    def __init__(
        self,
        config: PretrainConfig,
        fabric: Fabric,
        task: Pretraining,
        data: ImageData,
        held_out: ImageSource | None,
        report: KeyReport | None,
    ) -> None:
        rate, freq = learning_rate(config.optim), config.mgd.mgd_update_freq
        epochs = (
            evenly_spaced_epochs(rate.epochs, freq) if freq else unsupervised_epochs(rate.epochs)
        )
        super().__init__(config, fabric, task, data, rate, before_epochs(epochs, data.loader))
        self.report = report
        self.knn = build_knn(config, fabric)
        if self.knn:  # config.yaml says the k that stands beside the figures
            evaluation = replace(config.evaluation, knn_k=self.knn.k)
            self.config = replace(config, evaluation=evaluation)
        self.health = build_health(config, fabric, held_out) if held_out else None
        self.metric = choose_best(
            config,
            agreement=bool(self.health and task.teacher),
            labels=self.knn is not None,
        )
        self.teacher_top1: float | None = None

    def uses(self, held_out: ImageSource | None) -> dict[str, ImageSource]:
        """What is done with which images."""
        uses = {"training": self.data.source, "health": held_out}
        if self.knn:
            uses |= {"kNN's bank": self.knn.bank.guard.source, "kNN": self.knn.queries.guard.source}
        return {use: source for use, source in uses.items() if source is not None}

    def prepare(self) -> dict[str, float]:
        """The teacher's kNN accuracy, once; the student's is given as per cent of it."""
        teacher = self.task.teacher
        if teacher and self.report:
            normalisation = (self.report.mean, self.report.std)
            if self.health:
                self.health.watch(teacher.network, normalisation)
            if self.knn:
                self.teacher_top1 = self.knn(teacher.network, normalisation)
                settings = f"{self.knn.settings}; {self.knn.coverage}"
                logger.info("teacher: kNN top-1 %.2f %% (%s)", self.teacher_top1, settings)
                return {"teacher_knn_top1": self.teacher_top1}
        return {}

    def measure(self, epoch: int) -> dict[str, float]:
        """Health and kNN accuracy, each every so many epochs and after the last."""
        options, metrics = self.config.evaluation, dict[str, float]()
        normalisation = (self.config.loader.mean, self.config.loader.std)
        with without_head(self.task.student) as backbone:
            if self.knn and self._due(epoch, options.knn_every):
                metrics["val_knn_top1"] = top1 = self.knn(backbone, normalisation)
                if self.teacher_top1:
                    metrics["val_knn_top1_percent_of_teacher"] = 100 * top1 / self.teacher_top1
                metrics |= self.knn.counts
            if self.health and self._due(epoch, options.health_every):
                metrics |= self.health(backbone, normalisation)
        return metrics

    def _due(self, epoch: int, every_n: int) -> bool:
        return (epoch + 1) % every_n == 0 or epoch + 1 == self.loop.epochs

    def networks(self) -> dict[str, Any]:
        """facebookresearch/moco's ``arch`` and ``state_dict``, and beside them what they lack.

        The student is ``module.encoder_q.*``, whatever drives it.
        """
        loader = self.config.loader
        return {
            "arch": self.config.network.arch,
            "state_dict": {
                f"{prefix}{k}": v
                for prefix, module in self._saved().items()
                for k, v in module.state_dict().items()
            },
            "backbone": cast(BackboneSpec, self.task.student.spec).to_dict(),
            "normalisation": loader.normalisation,
            "size": loader.size,
            "provenance": {"teacher": self.teacher.to_dict()} if self.teacher else {},
        }

    @property
    def teacher(self) -> Provenance | None:
        """Whose weights the student learns from."""
        return self.report.provenance if self.report else None

    def restore(self, content: dict[str, Any]) -> None:
        """Student and objective, queues and key encoder among it."""
        saved = {_renamed(str(k)): v for k, v in content["state_dict"].items()}
        for prefix, module in self._saved().items():
            state = {k: v for k, v in saved.items() if k.startswith(prefix)}
            self.restore_network(module, {k.removeprefix(prefix): v for k, v in state.items()})

    def _saved(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by the prefix of its keys; MoCo holds the student itself."""
        student, loss = self.task.student, self.task.loss
        if isinstance(loss, MoCo):
            return {"module.": loss}
        return {"module.encoder_q.": student, "module.objective.": loss}

    def export(self, directory: Path) -> None:
        """The backbone without its head, under torchvision's or timm's keys."""
        export_backbone(self.config, self.task.student, directory, self.teacher)


def _renamed(key: str) -> str:
    """A key of a checkpoint as it is written now."""
    return next((new + key.removeprefix(old) for old, new in OLDER if key.startswith(old)), key)
