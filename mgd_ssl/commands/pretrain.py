"""Pretraining: wires data, networks, objective, distiller and loop together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from mgd_ssl.commands.devices import start_fabric
from mgd_ssl.commands.options import parse, to_dict
from mgd_ssl.commands.pretrain_config import PretrainConfig, resolve
from mgd_ssl.commands.pretrain_parts import Teacher, build_optimizer, build_task, load_teacher
from mgd_ssl.commands.pretrain_state import (
    check_same_run,
    file_digest,
    networks_content,
    restore_networks,
)
from mgd_ssl.commands.report import guarded
from mgd_ssl.data import (
    Batch,
    CanvasLoader,
    DecodeGuard,
    ImageSource,
    Normalize,
    build_view,
    make_loader,
    open_source,
    subset,
)
from mgd_ssl.data.views import to_unit
from mgd_ssl.distiller import StageMatching, update_matching
from mgd_ssl.evaluation.online import OnlineKnn
from mgd_ssl.files import write_whole
from mgd_ssl.matching import every, unsupervised_epochs
from mgd_ssl.models import BackboneSpec, backbone_state, without_head
from mgd_ssl.models.compiling import compile_parts, tapped_modules
from mgd_ssl.objectives import Pretraining
from mgd_ssl.training.checkpoint import (
    BEST,
    CONFIG,
    LAST,
    RunDirectory,
    export_student,
    load_checkpoint,
    save_checkpoint,
)
from mgd_ssl.training.logging import MetricWriter, logger, start_logging
from mgd_ssl.training.loop import LoopConfig, Position, fit, nothing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(resolve(parse(PretrainConfig, "pretrain.py", argv))))


def run(config: PretrainConfig) -> None:
    """Everything is built and checked first; then the directory is taken, then training starts."""
    start_logging()
    fabric = start_fabric(config.device)
    torch.manual_seed(config.seed)
    source = open_source(config.data, "train")
    source = subset(source, config.loader.limit) if config.loader.limit else source
    teacher = load_teacher(config, fabric) if config.method == "mgd" else None
    task = build_task(config, teacher, fabric)
    pretraining = PretrainRun(config, fabric, source, teacher, task)
    assert config.out is not None
    directory = RunDirectory(config.out)
    if fabric.is_global_zero:
        directory.open(resume=config.resume, overwrite=config.overwrite)
        start_logging(directory.path / "train.log")
    fabric.barrier()
    pretraining.train(directory)
    directory.close()


class PretrainRun:
    """One run: its parts, and what is done before, in and after an epoch."""

    def __init__(
        self,
        config: PretrainConfig,
        fabric: Fabric,
        source: ImageSource,
        teacher: Teacher | None,
        task: Pretraining,
    ) -> None:
        self.config, self.fabric, self.source = config, fabric, source
        self.teacher, self.task = teacher, task
        self.epochs, self.size = cast(int, config.optim.epochs), cast(int, config.loader.size)
        self.learning_rate = config.learning_rate
        self.loop = LoopConfig(self.epochs, config.seed, config.print_freq, config.save_every)
        self.loader = self._loader(source, train=True)
        self.guard = DecodeGuard(source, config.loader.bad_images)
        self.view = build_view(config.views, self.size).to(fabric.device)
        self.normalize = Normalize(config.loader.mean, config.loader.std).to(fabric.device)
        freq = config.mgd.mgd_update_freq
        self.solve_before = every(self.epochs, freq) if freq else unsupervised_epochs(self.epochs)
        self.knn = self._online_knn()
        self.best = float("-inf")
        self.teacher_digest = file_digest(teacher.report.path) if teacher else None

    def _loader(self, source: ImageSource, *, train: bool, shard: bool = True) -> CanvasLoader:
        fabric, batch = self.fabric, cast(int, self.config.optim.batch_size)
        return make_loader(
            source,
            self.size,
            batch // fabric.world_size,
            train=train,
            seed=self.config.seed,
            workers=0 if source.in_memory else self.config.loader.workers,
            rank=fabric.global_rank if shard else 0,
            world_size=fabric.world_size if shard else 1,
            resize=self.config.loader.canvas,
        )

    def _online_knn(self) -> OnlineKnn | None:
        options = self.config.evaluation
        if options.knn_every == 0:
            return None
        data = options.eval_data or self.config.data
        try:
            bank = open_source(data, "train", labelled=True)
            queries = open_source(data, "val", labelled=True)
        except ValueError:
            if options.eval_data:
                raise
            logger.info("no labelled train and val parts in %s: no kNN as training goes", data)
            return None
        bank = subset(bank, options.knn_bank, self.config.seed)
        return OnlineKnn(
            bank=self._loader(bank, train=False, shard=False),
            queries=self._loader(queries, train=False, shard=False),
            k=cast(int, options.knn_k),
            temperature=options.knn_t,
            device=self.fabric.device,
        )

    def train(self, directory: RunDirectory) -> None:
        """Train to the end, from the last checkpoint where ``--resume`` finds one."""
        config, fabric = self.config, self.fabric
        self.directory = directory
        start = Position()
        content = self._read_checkpoint()
        if content:
            start = self._restore_networks(content)
        if fabric.is_global_zero:  # a refused resumption has left the run's own settings there
            directory.write_config(to_dict(replace(config, resume=False, overwrite=False)))
        if config.device.channels_last:
            self.task.to(memory_format=torch.channels_last)
        if config.device.compile:
            self._compile()
        self.module, self.optimizer = fabric.setup(self.task, build_optimizer(config, self.task))
        if content:
            self.optimizer.load_state_dict(content["optimizer"])
            fabric.strategy.precision.load_state_dict(content["precision"])
        self._measure_teacher()
        writer = MetricWriter(directory.path, fabric.is_global_zero, keep=self._steps(start))
        try:
            fit(
                self.step,
                self.loader,
                self.optimizer,
                self.loop,
                fabric=fabric,
                learning_rate=self.learning_rate,
                save=self.save,
                start=start,
                before_epoch=self.before_epoch if self.teacher else nothing,
                after_epoch=self.after_epoch,
                writer=writer,
            )
        finally:
            writer.close()
        logger.info("done; the student is %s", directory.path / "student.safetensors")

    def _compile(self) -> None:
        moco, teacher = self.task.moco, self.teacher
        parts = compile_parts(moco.encoder_q, tapped_modules(self.task.reader))
        parts += compile_parts(moco.encoder_k)
        parts += compile_parts(teacher.network, tapped_modules(teacher.reader)) if teacher else 0
        logger.info("%d parts of the networks are compiled as they are first used", parts)

    def _steps(self, position: Position) -> int:
        return position.epoch * len(self.loader) + position.step

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Two views of a batch, the teacher's maps of the first, and the named losses."""
        self.guard.check(batch)
        query, key = self.view(batch.images), self.view(batch.images)
        maps = None
        if self.teacher:
            with self.fabric.autocast():
                maps = self.teacher.read(query)
        losses: dict[str, Tensor] = self.module(self.normalize(query), self.normalize(key), maps)
        return losses

    def before_epoch(self, epoch: int) -> dict[str, float]:
        """Solve the matching anew where the schedule says so."""
        teacher, distiller, reader = self.teacher, self.task.distiller, self.task.reader
        if epoch + 1 not in self.solve_before or not (teacher and distiller and reader):
            return {}
        seed, count = self.config.seed + epoch, self.config.mgd.mgd_update_images
        loader = self._loader(subset(self.source, count, seed), train=False)
        student = self.task.moco.encoder_q
        images = (to_unit(self.fabric.to_device(batch.images)) for batch in loader)
        training = student.training
        student.eval()
        with self.fabric.autocast():
            solved = update_matching(
                distiller, lambda x: reader(student, self.normalize(x))[0], teacher.read, images
            )
        student.train(training)
        self._save_matching(epoch, solved)
        metrics = {f"matching_total/{m.name}": m.total for m in solved}
        return metrics | {f"matching_changed/{m.name}": float(m.changed) for m in solved}

    def _save_matching(self, epoch: int, solved: Sequence[StageMatching]) -> None:
        text = "  ".join(f"{m.name} {m.total:.3f} ({m.changed} changed)" for m in solved)
        logger.info("matching solved before epoch %d: total cost %s", epoch + 1, text)
        if self.fabric.is_global_zero:
            arrays: dict[str, Any] = {f"{m.name}/cost": m.cost.numpy() for m in solved}
            arrays |= {f"{m.name}/assignment": m.assignment.numpy() for m in solved}
            path = self.directory.path / "matching" / f"epoch_{epoch + 1:04}.npz"
            write_whole(path, lambda file: np.savez_compressed(file, **arrays))

    def _measure_teacher(self) -> None:
        """The teacher's kNN accuracy, once; the student's is given as per cent of it."""
        self.teacher_top1: float | None = None
        if self.teacher and self.knn and self.fabric.is_global_zero:
            report = self.teacher.report
            self.teacher_top1 = self.knn(self.teacher.network, (report.mean, report.std))
            logger.info("teacher: kNN top-1 %.2f %% (%s)", self.teacher_top1, self.knn.settings)
        self.fabric.barrier()

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """kNN accuracy every so many epochs, and after the last."""
        every_n = self.config.evaluation.knn_every
        due = every_n and ((epoch + 1) % every_n == 0 or epoch + 1 == self.epochs)
        metrics: dict[str, float] = {}
        if self.knn and due and self.fabric.is_global_zero:
            with without_head(self.task.moco.encoder_q) as backbone:
                top1 = self.knn(backbone, (self.config.loader.mean, self.config.loader.std))
            metrics["val_knn_top1"] = top1
            if self.teacher_top1:
                metrics["val_knn_top1_percent_of_teacher"] = 100 * top1 / self.teacher_top1
            self.is_best, self.best = top1 > self.best, max(top1, self.best)
        self.fabric.barrier()
        return metrics

    is_best = False

    def save(self, position: Position) -> None:
        """Write last.pt, best.pt where the student was never better, and the student alone."""
        if self.fabric.is_global_zero:
            content = self._content(position)
            save_checkpoint(self.directory.checkpoints / LAST, content)
            if self.is_best:
                save_checkpoint(self.directory.checkpoints / BEST, content)
            state = backbone_state(self.task.moco.encoder_q)
            path = self.directory.path / "student.safetensors"
            spec = BackboneSpec(**content["backbone"])
            export_student(path, state, spec, content["normalisation"], self.size)
        self.is_best = False
        self.fabric.barrier()

    def _content(self, position: Position) -> dict[str, Any]:
        content = networks_content(self.config, self.task)
        content |= {
            "epoch": position.epoch,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "progress": {"epoch": position.epoch, "step": position.step, "best": self.best},
            "steps_per_epoch": len(self.loader),
            "teacher": self.teacher_digest,
        }
        return content

    def _read_checkpoint(self) -> dict[str, Any] | None:
        path = self.directory.checkpoints / LAST
        if not self.config.resume:
            return None
        if not path.is_file():
            logger.info("nothing to resume in %s: starting anew", self.directory.path)
            return None
        return load_checkpoint(path)

    def _restore_networks(self, content: dict[str, Any]) -> Position:
        path = self.directory.path / CONFIG
        check_same_run(self.config, content, self.teacher_digest, len(self.loader), path)
        restore_networks(self.task, content)
        progress = content["progress"]
        self.best = progress["best"]
        logger.info("resumed at epoch %d, step %d", progress["epoch"] + 1, progress["step"])
        return Position(progress["epoch"], progress["step"])
