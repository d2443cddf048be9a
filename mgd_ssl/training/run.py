"""A training run: what every training command does around the loop, and only once."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import ImageSource, data_digest
from mgd_ssl.distiller import StageMatching
from mgd_ssl.files import write_whole
from mgd_ssl.models import keeping_buffers, whole_or_not
from mgd_ssl.models.compiling import compile_parts, tapped_modules
from mgd_ssl.settings.config_file import COMMAND, command_of
from mgd_ssl.settings.options import to_dict
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.tasks import Task
from mgd_ssl.training.alarms import StillStudent
from mgd_ssl.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.logging import MetricWriter, logger, start_logging
from mgd_ssl.training.loop import Loader, LoopConfig, Position, fit
from mgd_ssl.training.memory import StepMemory, available, check_fits
from mgd_ssl.training.meter import Summed
from mgd_ssl.training.optimizer import build_optimizer
from mgd_ssl.training.restoring import check_optimizer, check_sections, restore_module
from mgd_ssl.training.run_directory import RunDirectory
from mgd_ssl.training.run_files import CONFIG
from mgd_ssl.training.same_run import (
    check_same_run,
    refuse_own_sources,
    start_digest,
    weights_digest,
)
from mgd_ssl.training.schedules import LearningRate

SMALL = 96  # pixels of a side, below which a small stem is the default
Config = TypeVar("Config", bound=RunConfig)
AnyTask = TypeVar("AnyTask", bound=Task)


def execute(config: Config, build: "Callable[[Config, Fabric], TrainingRun[Any, Any]]") -> None:
    """Everything is built and checked first; then the directory is taken, then training starts."""
    start_logging()
    if config.overwrite:
        refuse_own_sources(config)
    fabric = start_fabric(config.device)
    torch.manual_seed(config.seed)
    run = build(config, fabric)
    run.check_memory()
    directory = RunDirectory(cast(Path, config.out))
    try:
        take(directory, config, fabric)
        run.train(directory)
    except BaseException:
        if not run.begun:
            directory.abandon()
        raise
    finally:
        directory.close()


def take(directory: RunDirectory, config: RunConfig, fabric: Fabric) -> None:
    """Take the directory in the first process; the others wait, and end with it where refused."""
    refusal: list[ValueError | OSError] = []
    if fabric.is_global_zero:
        try:
            directory.open(resume=config.resume, overwrite=config.overwrite)
            start_logging(directory.path / "train.log")
        except (ValueError, OSError) as error:
            refusal.append(error)
    for refused in distributed.gather_list(refusal):
        raise refused


class TrainingRun(ABC, Generic[Config, AnyTask]):
    """One run: its parts, and what is done before, in and after a step and an epoch.

    A command says what a step is, when the matching is solved and from what, how the student is
    measured, and what its checkpoint holds; this class does the rest for all of them.

    Attributes:
        metric: name of the figure whose best value chooses best.pt; the more the better. Empty
            where the last epoch is taken for the best. A run may set its own; the class's is the
            one that runs went by before checkpoints said which.
        begun: whether this process has taken a step, or saved one.
        source: training images.
    """

    metric: str
    source: ImageSource

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        task: AnyTask,
        loader: Loader,
        learning_rate: LearningRate,
    ) -> None:
        self.config, self.fabric, self.loader = config, fabric, loader
        # loaded networks come in eval mode; a teacher and frozen norms stay as they are
        self.task = task.to(fabric.device).train()
        self.learning_rate = learning_rate
        self.loop = LoopConfig(
            learning_rate.epochs, config.seed, config.print_freq, config.save_every
        )
        self.optimizer: Any = build_optimizer(config, self.task)
        self.sources: dict[str, Any] = {}
        self.still: StillStudent | None = None
        self.best, self.is_best = float("-inf"), False
        self.start, self.begun = Position(), False

    @abstractmethod
    def step(self, batch: Any) -> dict[str, Tensor]:
        """A batch on the device -> named losses, whose sum is minimised."""

    @abstractmethod
    def is_due(self, here: Position) -> bool:
        """Whether the matching is solved before the step at a position."""

    @abstractmethod
    def statistics(self, here: Position) -> Iterable[Any]:
        """Batches of training images, under the evaluation transform, that a solve is based on."""

    @abstractmethod
    def first(self) -> Iterable[Any]:
        """Batches of the first steps' images, that the stages are weighed by.

        As many on every rank: synchronised norms wait for all.
        """

    @abstractmethod
    def measure(self, epoch: int) -> dict[str, float]:
        """Figures of the student after an epoch, from 0; every rank calls it and gets them."""

    @abstractmethod
    def networks(self) -> dict[str, Any]:
        """What a checkpoint holds of the networks; read by other commands and projects too."""

    @abstractmethod
    def restore(self, content: dict[str, Any]) -> None:
        """Counterpart of `networks`; by `put_back`."""

    def put_back(self, module: nn.Module, state: dict[str, Any]) -> None:
        """Load what a checkpoint's state dict holds of a network; see `restore_module`."""
        restore_module(module, state, self.directory.checkpoints / LAST, "state_dict")

    @abstractmethod
    def export(self, directory: Path) -> None:
        """Write the student alone."""

    def step_memory(self) -> StepMemory | None:
        """What a step takes on this process; None where it is not known."""
        return None

    def check_memory(self) -> None:
        """Refuse a step that does not fit into memory, on every rank where it does not on one.

        Raises:
            ValueError: names a batch that fits.
        """
        fabric, processes = self.fabric, int(self.fabric.world_size)
        need = self.step_memory()
        if need is None:
            return
        free, where = available(fabric.device), f"on {fabric.device}"
        if free is not None and fabric.device.type == "cpu":
            free, where = free * self.config.device.num_nodes // processes, "on this machine"
        batch, size = cast(int, self.config.optim.batch_size), self.config.loader.size or 0
        warning = distributed.together(
            lambda: check_fits(need, batch, processes, free, where, size < SMALL)
        )
        if warning:
            logger.warning("%s", warning)

    def prepare(self) -> dict[str, float]:
        """Measure what needs measuring once, before the first step; figures for metrics.jsonl."""
        return {}

    def train(self, directory: RunDirectory) -> None:
        """Train to the end, from the last checkpoint where ``--resume`` finds one."""
        config, fabric = self.config, self.fabric
        self.directory, self.sources = directory, self._identify()
        content = self._read_checkpoint()
        self.start = start = self._restore(content) if content else Position()
        if fabric.is_global_zero:  # a refused resumption has left the run's own settings there
            settings = to_dict(replace(config, resume=False, overwrite=False))
            directory.write_config({COMMAND: command_of(type(config)), **settings})
        if config.device.channels_last:
            self.task.to(memory_format=torch.channels_last)
        if config.device.compile:
            logger.info("%d parts are compiled as they are first used", self.compile())
        self.module, self.optimizer = fabric.setup(self.task, self.optimizer)
        if content:
            self.optimizer.load_state_dict(content["optimizer"])
            fabric.strategy.precision.load_state_dict(content["precision"])
        prepared = self.prepare()
        if start.step < len(self.loader):
            self.still = StillStudent(self.task.student.parameters())
        steps = start.epoch * len(self.loader) + start.step
        writer = MetricWriter(directory.path, fabric.is_global_zero, keep=steps)
        try:
            if steps == 0 and prepared:
                writer.write(0, 0.0, prepared)
            self._fit(start, writer)
        finally:
            writer.close()
        student = directory.path / "student.safetensors"
        logger.info("done; the student is %s", student if student.exists() else directory.path)

    def _identify(self) -> dict[str, Any]:
        """What the run is made from, wherever it lies; see `check_same_run`."""
        teacher = self.task.teacher
        mine = [data_digest(self.source)] if self.fabric.is_global_zero else []
        return {
            "teacher": weights_digest(teacher.network.state_dict()) if teacher else None,
            "start": start_digest(self.config),
            "images": len(self.source),
            "data": distributed.gather_list(mine)[0],
        }

    def _fit(self, start: Position, writer: MetricWriter) -> None:
        fit(
            self.step,
            self.loader,
            self.optimizer,
            self.loop,
            fabric=self.fabric,
            learning_rate=self.learning_rate,
            save=self.save,
            start=start,
            before_step=self.before_step,
            after_epoch=self.after_epoch,
            writer=writer,
        )

    def compile(self) -> int:
        """Compile the networks' blocks that no tap stands in; returns how many."""
        task, teacher = self.task, self.task.teacher
        parts = compile_parts(task.student, tapped_modules(task.reader))
        return parts + (
            compile_parts(teacher.network, tapped_modules(teacher.reader)) if teacher else 0
        )

    def before_step(self, here: Position) -> dict[str, float]:
        """Solve the matching anew where the schedule says so, and say how much it counts."""
        self.begun = self.begun or here != self.start
        distiller = self.task.distiller
        if distiller is None:
            return {}
        metrics: dict[str, float] = {}
        if self.is_due(here) and not distiller.is_settled:
            with whole_or_not(distiller):
                metrics = self._solve(here)
        distiller.gain = self.config.mgd.gain(here.epoch + here.step / len(self.loader))
        return metrics

    def _solve(self, here: Position) -> dict[str, float]:
        distiller, start = self.task.distiller, self.config.mgd.mgd_start
        assert distiller
        distributed.share_buffers(self.task.student)
        with self.fabric.autocast():
            solved = self.task.solve(self.statistics(here))
        self._save_matching(here, solved)
        metrics = {f"matching_total/{m.name}": m.total for m in solved}
        metrics |= {f"matching_changed/{m.name}": float(m.changed) for m in solved}
        if start is None or distiller.solves > 1:
            return metrics
        kept = keeping_buffers(self.task.student, distiller)  # it is run in training mode
        with torch.no_grad(), self.fabric.autocast(), kept:
            pairs = (pair for images in self.first() for pair in self.task.pairs(images))
            scales = distiller.calibrate(pairs, start)
        named = zip(distiller.stages, scales, strict=True)
        return metrics | {f"matching_scale/{stage.name}": scale for stage, scale in named}

    def _save_matching(self, here: Position, solved: Sequence[StageMatching]) -> None:
        text = "  ".join(f"{m.name} {m.total:.3f} ({m.changed} changed)" for m in solved)
        logger.info("matching solved before %s: total cost %s", here, text)
        if self.fabric.is_global_zero:
            arrays: dict[str, Any] = {f"{m.name}/cost": m.cost.numpy() for m in solved}
            arrays |= {f"{m.name}/assignment": m.assignment.numpy() for m in solved}
            step = f"_step_{here.step + 1:06}" if here.step else ""
            path = self.directory.path / "matching" / f"epoch_{here.epoch + 1:04}{step}.npz"
            write_whole(path, lambda file: np.savez_compressed(file, **arrays))

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Measure the student, and note whether it was never better."""
        self.begun = True
        if self.still:
            self.still.check(self.task.student.parameters())
            self.still = None
        distributed.share_buffers(self.task.student)
        metrics = self._measured(epoch)
        if self.metric in metrics:
            figure = metrics[self.metric]
            self.is_best, self.best = figure > self.best, max(figure, self.best)
        elif not self.metric:
            self.is_best = epoch + 1 == self.loop.epochs
        self.fabric.barrier()
        return metrics

    def _measured(self, epoch: int) -> dict[str, float]:
        """The epoch's figures; where they cannot be taken the epoch is kept, and that is said.

        Raises:
            ValueError: the student itself is not finite, so that there is nothing to keep.
        """
        try:
            return self.measure(epoch)
        except (ValueError, OSError, RuntimeError) as error:
            if not all(p.isfinite().all() for p in self.task.student.parameters()):
                raise
            logger.warning(
                "the student could not be measured after epoch %d: %s. Its weights are kept, and "
                "the run goes on",
                *(epoch + 1, error),
            )
            return {}

    def save(self, position: Position) -> None:
        """Write last.pt, best.pt where the student was never better, and the student alone."""
        self.begun = True
        if self.fabric.is_global_zero:
            content = self._content(position)
            save_checkpoint(self.directory.checkpoints / LAST, content)
            if self.is_best:
                save_checkpoint(self.directory.checkpoints / BEST, content)
            self.export(self.directory.path)
        self.is_best = False
        self.fabric.barrier()

    def _content(self, position: Position) -> dict[str, Any]:
        distiller = self.task.distiller
        return self.networks() | {
            "config": to_dict(self.config),
            "distiller": distiller.state_dict() if distiller else None,
            "epoch": position.epoch,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "progress": {
                "epoch": position.epoch,
                "step": position.step,
                "summed": dataclasses.asdict(position.summed),
                "best": self.best,
                "metric": self.metric,
            },
            "steps_per_epoch": len(self.loader),
            **self.sources,
        }

    def _read_checkpoint(self) -> dict[str, Any] | None:
        path = self.directory.checkpoints / LAST
        if not self.config.resume:
            return None
        if not path.is_file():
            logger.info("nothing to resume in %s: starting anew", self.directory.path)
            return None
        content = load_checkpoint(path)
        check_sections(path, content)
        return content

    def _restore(self, content: dict[str, Any]) -> Position:
        path = self.directory.path / CONFIG
        check_same_run(self.config, content, self.sources, len(self.loader), path)
        self.restore(content)
        last = self.directory.checkpoints / LAST
        if self.task.distiller:
            state = content["distiller"] or {}
            restore_module(self.task.distiller, state, last, "distiller", finite=False)
        check_optimizer(self.optimizer, content["optimizer"], last)
        progress = content["progress"]
        if progress.get("metric", type(self).metric) == self.metric:
            self.best = progress["best"]
        position = Position(
            progress["epoch"], progress["step"], Summed(**progress.get("summed", {}))
        )
        logger.info("resumed at %s", position)
        return position
