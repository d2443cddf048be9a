"""A training run: what every training command does around the loop, and only once."""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.fabric import Fabric
from mgd_ssl.loggers import Loggers
from mgd_ssl.models import undone_on_error
from mgd_ssl.settings.config_file import saved
from mgd_ssl.settings.options import flat
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.alarms import UnmovedStudent, measure_or_warn
from mgd_ssl.training.average import StudentAverage
from mgd_ssl.training.checkpoint import BEST, LAST, last_of, save_checkpoint
from mgd_ssl.training.checks import check_rate
from mgd_ssl.training.devices import compile_task
from mgd_ssl.training.logging import MetricWriter, logger
from mgd_ssl.training.loop import LoopConfig, Position, fit
from mgd_ssl.training.memory_check import check_memory
from mgd_ssl.training.optimizer import build_optimizer
from mgd_ssl.training.restoring import restore_module, restore_optimizer
from mgd_ssl.training.run_content import content_of, read_everywhere, restore_run
from mgd_ssl.training.run_directory import RunDirectory, taken_directory
from mgd_ssl.training.run_files import STUDENT
from mgd_ssl.training.same_run import identify
from mgd_ssl.training.schedules import LearningRate, weight_decay
from mgd_ssl.training.solving import solve_matching
from mgd_ssl.training.training_data import TrainingData
from mgd_ssl.training.updating import in_parts, update_weights

Config = TypeVar("Config", bound=RunConfig)
AnyTask = TypeVar("AnyTask", bound=Task)


class TrainingRun(ABC, Generic[Config, AnyTask]):
    """One run: its parts, and what is done before, in and after a step and an epoch.

    A command gives it the task, the images and the steps before which the matching is solved, and
    says how the student is measured and what its checkpoint holds.

    Args:
        config: of the command.
        fabric: devices and precision.
        task: what is trained.
        data: training images.
        learning_rate: of the run, whose length it has.
        solve_at: steps of the run, from 0, before which the matching is solved.

    Attributes:
        metric: name of the figure whose best value chooses best.pt; the more the better. Empty
            where the last epoch is taken for the best. A run may set its own; the class's is the
            one that runs went by before checkpoints said which.
        begun: whether this process has taken a step, or saved one.
    """

    metric: str

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        task: AnyTask,
        data: TrainingData,
        learning_rate: LearningRate,
        solve_at: Container[int] = (),
    ) -> None:
        self.config, self.fabric, self.data, self.solve_at = config, fabric, data, solve_at
        self.steps = len(data.loader)
        # loaded networks come in eval mode; a teacher and frozen norms stay as they are
        self.task = task.to(fabric.device).train()
        check_rate(config.optim)
        self.learning_rate = learning_rate
        self.loop_config = LoopConfig(
            learning_rate.epochs, config.seed, config.print_freq, config.save_every
        )
        decay = weight_decay(config.optim, learning_rate, self.steps, self.task.student)
        self.optimizer: Any = build_optimizer(config, self.task, decay)
        ema = config.optim.ema
        self.average = None if ema is None else StudentAverage(self.task.student, ema)
        self.sources: dict[str, Any] = {}
        self.unmoved: UnmovedStudent | None = None
        self.best, self.is_best = float("-inf"), False
        self.start, self.begun = Position(), False

    def prepare(self) -> dict[str, float]:
        """Measure what needs measuring once, before the first step; figures for metrics.jsonl."""
        return {}

    def found(self) -> dict[str, float]:
        """Rate and weight decay that the settings leave to the run; figures for metrics.jsonl."""
        optim, found = self.config.optim, dict[str, float]()
        if not optim.lr:
            found["found/lr"] = self.learning_rate.base
        if optim.weight_decay is None:
            found["found/weight_decay"] = self.optimizer.param_groups[0]["weight_decay"]
        return found

    def say_found(self) -> None:
        """Log the rate that was found, and the length of the run for which it was."""
        optim = self.config.optim
        if self.fabric.is_global_zero and not optim.lr:
            decay = self.optimizer.param_groups[0]["weight_decay"]
            steps = f"{self.learning_rate.epochs * self.steps:,}"
            said = (self.learning_rate.base, decay, steps, optim.batch_size)
            logger.info("learning rate %.2g, weight decay %.2g: for %s steps of %d images", *said)

    @abstractmethod
    def measure(self, epoch: int) -> dict[str, float]:
        """Figures of the student after an epoch, from 0; every rank calls it and gets them."""

    @abstractmethod
    def networks(self) -> dict[str, Any]:
        """What a checkpoint holds of the networks; read by other commands and projects too."""

    @abstractmethod
    def restore(self, content: dict[str, Any]) -> None:
        """Counterpart of `networks`; by `restore_network`."""

    def restore_network(self, module: nn.Module, state: dict[str, Any]) -> None:
        """Load what a checkpoint's state dict holds of a network; see `restore_module`."""
        restore_module(module, state, last_of(self.directory.checkpoints), "state_dict")

    @abstractmethod
    def export(self, directory: Path) -> None:
        """Write the student alone."""

    def result(self) -> str:
        """Where the student is, in words."""
        student = self.directory.path / STUDENT
        return f"the student is {student if student.exists() else self.directory.path}"

    def next_steps(self) -> str:
        """What to do with the student, in words that the run ends with; nothing by default."""
        return ""

    def train(self) -> None:
        """Train to the end, from the last checkpoint where ``--resume`` finds one.

        Raises:
            ValueError: a step does not fit into memory, or the directory is refused.
        """
        data, fabric = self.data, self.fabric
        self.say_found()
        check_memory(self.config, fabric, self.task, self.optimizer, data)
        with taken_directory(self.config, lambda: self.begun) as directory:
            self.set_up(directory)
            figures = {**self.prepare(), **self.found()}
            self.task.free_teacher()
            if self.start.step < self.steps:
                self.unmoved = UnmovedStudent(self.task.student.parameters())
            done = self.steps_before(self.start)
            with closing(distributed.together(lambda: self.writer(done))) as writer:
                if done == 0 and figures:
                    writer.write(0, 0.0, figures)
                fit(
                    self.parts,
                    data.loader,
                    self.optimizer,
                    self.loop_config,
                    fabric=fabric,
                    learning_rate=self.learning_rate,
                    save=self.save,
                    start=self.start,
                    before_step=self.before_step,
                    after_epoch=self.after_epoch,
                    update=self.update,
                    writer=writer,
                )
            logger.info("done; %s", self.result())
            if fabric.is_global_zero and (text := self.next_steps()):
                print(text)  # as it is: the log would break the lines

    def set_up(self, directory: RunDirectory) -> None:
        """Restore the last checkpoint where there is one, and set the networks up to train."""
        config, fabric = self.config, self.fabric
        self.directory = directory
        self.sources = identify(config, self.task, self.data)
        content = read_everywhere(directory.checkpoints) if config.resume else None
        if content:
            self.start = restore_run(self, content)
        if self.data.make and self.start.epoch < self.loop_config.epochs:
            self.data.make()
        own = saved(replace(config, resume=False, overwrite=False))
        distributed.from_first(lambda: directory.begin(own))  # all that may be refused was tried
        self.lay_out()
        if content:
            restore_optimizer(self.optimizer, content["optimizer"])
            fabric.strategy.precision.load_state_dict(content["precision"])

    def lay_out(self) -> None:
        """Lay the networks out and compile them as the options say, and let Fabric wrap them."""
        options = self.config.device
        if options.channels_last:
            self.task.to(memory_format=torch.channels_last)
            if self.average:
                self.average.model.to(memory_format=torch.channels_last)
        if options.compile:
            logger.info("%d parts are compiled as they are first used", compile_task(self.task))
        self.module, self.optimizer = self.fabric.setup(self.task, self.optimizer)

    def writer(self, done: int) -> MetricWriter:
        """What writes the figures after so many steps, and the loggers that the user asked for."""
        path, is_first, others = self.directory.path, self.fabric.is_global_zero, None
        if is_first:
            others = Loggers(self.config.logger, path, dict(flat(saved(self.config))))
        # a run from its start writes the row before it again
        return MetricWriter(path, is_first, keep=done or -1, others=others)

    def steps_before(self, here: Position) -> int:
        """Steps of the run that were taken before a position."""
        return here.epoch * self.steps + here.step

    def step(self, batch: Any) -> dict[str, Tensor]:
        """A batch on the device -> named losses, whose sum is minimized."""
        losses: dict[str, Tensor] = self.module(*self.data.task_inputs(batch))
        return losses

    def parts(self, batch: Any) -> Iterator[dict[str, Tensor]]:
        """A batch on the device -> losses of one part of it after the other; see `in_parts`.

        What is random in the inputs is drawn for the whole batch.
        """
        count = self.config.optim.accumulate
        if count == 1:
            yield self.step(batch)
        else:
            yield from in_parts(self.fabric, self.module, self.data.task_inputs(batch), count)

    def update(self) -> None:
        """Change the weights by their gradients; see `update_weights`."""
        largest = self.config.optim.clip_grad
        update_weights(
            self.fabric, self.module, self.optimizer, largest=largest, average=self.average
        )

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the student is its average where the run keeps one."""
        return self.average.in_place() if self.average else nullcontext()

    def before_step(self, here: Position) -> dict[str, float]:
        """Solve the matching anew where the schedule says so."""
        self.begun = self.begun or here != self.start
        distiller = self.task.distiller
        if distiller is None:
            return {}
        metrics: dict[str, float] = {}
        if self.steps_before(here) in self.solve_at and not distiller.is_settled:
            with undone_on_error(distiller):
                folder, mgd = self.directory.path / "matching", self.config.mgd
                start = mgd.mgd_strength if mgd.mgd_weighing == "start" else None
                metrics = solve_matching(self.task, self.data, here, self.fabric, folder, start)
        return metrics

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Measure the student, and note whether it was never better."""
        self.begun = True
        if self.unmoved:
            self.unmoved.check(self.task.student.parameters())
            self.unmoved = None
        distributed.share_buffers(self.task.student)
        if self.average:
            self.average.share()
        with self.averaged():
            metrics = measure_or_warn(self.measure, epoch, self.task.student)
        if self.metric in metrics:
            figure = metrics[self.metric]
            self.is_best, self.best = figure > self.best, max(figure, self.best)
        elif not self.metric:
            self.is_best = epoch + 1 == self.loop_config.epochs
        self.fabric.barrier()
        return metrics

    def save(self, position: Position) -> None:
        """Write best.pt where the student was never better, the student alone, and last.pt.

        last.pt comes last: a run that is killed before it resumes from the one before, and writes
        the others again.
        """
        self.begun = True
        distributed.from_first(lambda: self._write(position))
        self.is_best = False
        self.fabric.barrier()

    def _write(self, position: Position) -> None:
        with self.averaged():
            content = content_of(self, position)
            last, best = (self.directory.checkpoints / name for name in (LAST, BEST))
            if self.is_best:
                save_checkpoint(best, content)
            self.export(self.directory.path)
            save_checkpoint(last, content, written=best if self.is_best else None)
