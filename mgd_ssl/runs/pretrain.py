"""Pretraining: wires data, networks, objective, distiller and loop together."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from mgd_ssl.data import ImageLoader, ImageSource, data_line, open_sources, subset
from mgd_ssl.fabric import Fabric
from mgd_ssl.losses.moco import MoCo
from mgd_ssl.matching import evenly_spaced_epochs, unsupervised_epochs
from mgd_ssl.models import BackboneSpec, without_head
from mgd_ssl.objectives.objective import WithQueue
from mgd_ssl.runs.image_data import image_data, look_at_cache
from mgd_ssl.runs.next_steps import data_words, next_steps
from mgd_ssl.runs.pretrain_evaluation import (
    build_health,
    build_knn,
    choose_best,
    hold_out,
)
from mgd_ssl.runs.pretrain_networks import build_networks, build_task
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.training.alarms import warn_of_guessing
from mgd_ssl.training.checkpoint import export_backbone
from mgd_ssl.training.checks import check_enlarged, check_queue, with_batch
from mgd_ssl.training.distillation import teacher_size
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.logging import logger
from mgd_ssl.training.run import TrainingRun
from mgd_ssl.training.same_run import located
from mgd_ssl.training.schedules import learning_rate, pretraining_rate
from mgd_ssl.training.starting import start_run
from mgd_ssl.training.student_weights import Reports
from mgd_ssl.training.training_data import ImageData, before_epochs

MOST_KEYS = 65536  # in a queue; MoCo v2's
# What keys began with in checkpoints that did not have every student as module.encoder_q.
OLDER = (("backbone.", "module.encoder_q."), ("objective.", "module.objective."))


def run(config: PretrainConfig) -> Path:
    """Pretrain a student; returns the run's directory."""
    config, fabric = start_run(located(config))
    look_at_cache(config, fabric)
    run = build(without_making(config) if config.dry_run else config, fabric)
    if config.dry_run:
        from mgd_ssl.runs.dry_run import dry_run

        dry_run(run, config)
    else:
        run.train()
    return run.config.out


def build(config: PretrainConfig, fabric: Fabric) -> "PretrainRun":
    """The parts of a run, each checked."""
    source, held_out = open_images(config)
    config = with_batch(config, source, fabric.world_size)
    config = with_queue(config, len(source))
    check_enlarged(source, config.loader.size)
    student, reports, distillation = build_networks(config, source)
    task = build_task(config, fabric, student, reports.teacher, distillation)
    if isinstance(config.objective, WithQueue):
        check_queue(config.objective.moco_k, config.optim.batch_size, source)
    kinds = {"views_per_image": config.objective.views}
    data = image_data(config, fabric, source, task.teacher, reports.teacher, **kinds)
    config = replace(config, cache_views=data.stored_views)  # a cache may grow before --resume
    run = PretrainRun(config, fabric, task, data, held_out, reports)
    if fabric.is_global_zero:
        logger.info(data_line(run.uses(held_out)))
    return run


def without_making(config: PretrainConfig) -> PretrainConfig:
    """The settings of a dry run, which makes no teacher cache."""
    from mgd_ssl.runs.cache_before import is_made  # not needed by other runs

    if is_made(config):
        return config
    return replace(config, teacher_cache=None, cache_views=0)


def with_queue(config: PretrainConfig, images: int) -> PretrainConfig:
    """The settings with a queue that holds no image twice, if they name none."""
    objective, batch = config.objective, config.optim.batch_size
    if not isinstance(objective, WithQueue) or objective.moco_k:
        return config
    queue = min(MOST_KEYS, images) // batch * batch
    return replace(config, objective=replace(objective, moco_k=queue))


def open_images(config: PretrainConfig) -> tuple[ImageSource, ImageSource | None]:
    """Images to train on, and those that are held out for the health figures."""
    source = open_sources(config.data, "train", **config.loader.opening)
    source, held_out = hold_out(config, source)
    return subset(source, config.loader.limit) if config.loader.limit else source, held_out


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
        reports: Reports,
    ) -> None:
        rate = learning_rate(config.optim, len(data.loader), pretraining_rate(task.student))
        freq = config.mgd.mgd_update_freq
        epochs = (
            evenly_spaced_epochs(rate.epochs, freq) if freq else unsupervised_epochs(rate.epochs)
        )
        super().__init__(config, fabric, task, data, rate, before_epochs(epochs, data.loader))
        self.reports = reports
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
        teacher, report = self.task.teacher, self.reports.teacher
        if teacher and report:
            network, normalization = teacher.network, (report.mean, report.std)
            if self.health:
                images = self._teachers(self.health.loader)
                self.health.set_teacher(network, normalization, images)
            if self.knn:
                bank, queries = self._teachers(self.knn.bank), self._teachers(self.knn.queries)
                knn = replace(self.knn, bank=bank, queries=queries)
                self.teacher_top1 = knn(network, normalization)
                logger.info("teacher: kNN top-1 %.2f %% (%s)", self.teacher_top1, knn.conditions)
                warn_of_guessing(self.teacher_top1, self.knn.queries.guard.source)
                return {"teacher_knn_top1": self.teacher_top1}
        return {}

    def _teachers(self, loader: ImageLoader) -> ImageLoader:
        """The images of a loader at the teacher's size."""
        source, size = loader.guard.source, teacher_size(self.config)
        return build_loader(self.config, self.fabric, source, size=size)

    def measure(self, epoch: int) -> dict[str, float]:
        """Health and kNN accuracy, each every so many epochs and after the last."""
        options, metrics = self.config.evaluation, dict[str, float]()
        normalization = (self.config.loader.mean, self.config.loader.std)
        with without_head(self.task.student) as backbone:
            if self.knn and self._due(epoch, options.knn_every):
                metrics["val_knn_top1"] = top1 = self.knn(backbone, normalization)
                if self.teacher_top1:
                    metrics["val_knn_top1_percent_of_teacher"] = 100 * top1 / self.teacher_top1
                metrics |= self.knn.counts
            if self.health and self._due(epoch, options.health_every):
                metrics |= self.health(backbone, normalization)
        return metrics

    def _due(self, epoch: int, every_n: int) -> bool:
        return (epoch + 1) % every_n == 0 or epoch + 1 == self.loop_config.epochs

    def networks(self) -> dict[str, Any]:
        """facebookresearch/moco's ``arch`` and ``state_dict``, and beside them what they lack.

        The student is ``module.encoder_q.*``, whatever drives it.
        """
        loader, spec = self.config.loader, cast(BackboneSpec, self.task.student.spec)
        return {
            "arch": spec.arch,
            "state_dict": {
                f"{prefix}{k}": v
                for prefix, module in self._saved().items()
                for k, v in module.state_dict().items()
            },
            "backbone": spec.to_dict(),
            "normalisation": loader.normalization,
            "size": loader.size,
            "provenance": self.reports.provenance,
        }

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
        export_backbone(self.config, self.task.student, directory, self.reports.provenance)

    def next_steps(self) -> str:
        """The commands that measure the student, and the lines that load it."""
        own = self.config.evaluation.eval_data
        words = [str(own)] if own else data_words(self.config)
        labeled = self.knn is not None or self.data.source.labels is not None
        return next_steps(self.directory.path, words, self.task.student, labeled)


def _renamed(key: str) -> str:
    """A key of a checkpoint as it is written now."""
    return next((new + key.removeprefix(old) for old, new in OLDER if key.startswith(old)), key)
