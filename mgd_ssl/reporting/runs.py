"""Read a run directory: its settings, its metrics, and its teacher's figure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mgd_ssl.evaluation.collapse import collapse_signs
from mgd_ssl.reporting.places import comparable
from mgd_ssl.reporting.reading import (
    check_settings,
    read_rows,
    read_yaml,
    setting,
    to_path,
)

Role = Literal["distilled", "baseline", "alone"]
Series = dict[float, float]


class Command(NamedTuple):
    """A training command, and the validation metric by which a report compares its runs."""

    line: str
    metric: str  # in metrics.jsonl, in percent
    words: str  # the same in words


# By the command's name in config.yaml.
COMMANDS = {
    "pretrain": Command("python pretrain.py", "val_knn_top1", "kNN accuracy"),
    "classify": Command("mgd-ssl classify", "val_top1", "top-1 accuracy"),
    "detect": Command("mgd-ssl detect", "val_AP", "average precision"),
}
# Settings that a run may find itself: the value that says so, and what metrics.jsonl calls it.
FOUND = {"optim.lr": (0, "found/lr"), "optim.weight_decay": (None, "found/weight_decay")}
# Settings besides the network that a validation metric depends on.
MEASUREMENT_SETTINGS = (
    *("data", "loader.train_folder", "loader.val_folder", "evaluation.eval_data"),
    *("evaluation.knn_k", "evaluation.knn_t", "evaluation.knn_bank"),
)


@dataclass(frozen=True)
class Run:
    """The settings and metrics of a run directory.

    Attributes:
        path: as it was given.
        config: of config.yaml.
        rows: of metrics.jsonl, in order; finite numbers by name.
        baseline: whether it was given as one to compare with.
        notes: in words, what was left out of its files.
    """

    path: Path
    config: Mapping[str, Any]
    rows: list[dict[str, float]]
    baseline: bool = False
    notes: Sequence[str] = ()

    def setting(self, name: str) -> Any:
        """A setting by its dotted name; None where the run has none of it."""
        return setting(self.config, name)

    @property
    def command(self) -> Command:
        """The command that wrote it."""
        return COMMANDS[self.config["command"]]

    @property
    def role(self) -> Role:
        """A student with a teacher, one without, or a baseline."""
        if self.baseline:
            return "baseline"
        return "distilled" if self.setting("teacher.teacher") else "alone"

    @property
    def metric(self) -> str:
        """Name of its validation metric in metrics.jsonl."""
        return self.command.metric

    @property
    def epochs(self) -> int:
        """Epochs of the whole run; classify counts its warm-up separately."""
        warmup = self.config["command"] == "classify" and self.setting("optim.warmup_epochs")
        return int(self.setting("optim.epochs") or 0) + int(warmup or 0)

    @property
    def epoch(self) -> int:
        """Completed epochs."""
        return int(max(self.series("train_loss"), default=0))

    @property
    def finished(self) -> bool:
        """Whether its last epoch is complete."""
        return self.epoch >= self.epochs

    def series(self, name: str) -> Series:
        """Epoch -> finite value of a metric; 2.0 is the end of the second epoch."""
        found = {round(row["epoch"], 3): float(row[name]) for row in self.rows if name in row}
        return dict(sorted(found.items()))

    @cached_property
    def names(self) -> list[str]:
        """Its metrics, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def last(self, name: str) -> float | None:
        """The last value of a metric; None where it was never measured."""
        return next(reversed(self.series(name).values()), None)

    def in_words(self, name: str, value: Any) -> Any:
        """The value of a setting; where the run found it itself, what it found."""
        if name not in FOUND or value != FOUND[name][0]:
            return value
        found = self.last(FOUND[name][1])
        return "found" if found is None else f"{found:.3g} (found)"

    @property
    def collapse(self) -> str:
        """What told of a collapse when health was last measured; empty if nothing did."""
        rank, deviation = self.last("health/effective_rank"), self.last("health/deviation")
        return "" if rank is None or deviation is None else collapse_signs(rank, deviation)

    @cached_property
    def teacher(self) -> float | None:
        """The teacher's figure on the run's validation images, in percent; None if not known."""
        measured = self.last(self.metric.replace("val_", "teacher_", 1))
        return self._figure_of_teachers_run() if measured is None else measured

    def _figure_of_teachers_run(self) -> float | None:
        """What the run that trained the teacher measured, if it used the same command and data."""
        checkpoint = to_path(self.setting("teacher.teacher"))
        if checkpoint is None or checkpoint.parent.name != "checkpoints":
            return None
        try:
            run = read_run(checkpoint.parent.parent)
        except (ValueError, OSError):  # the teacher's run is not part of the report
            return None
        if run.command != self.command:
            return None
        if comparable(run.measured_with) != comparable(self.measured_with):
            return None
        figures = run.series(run.metric).values()
        return run.last(run.metric) if checkpoint.name == "last.pt" else max(figures, default=None)

    @property
    def seed(self) -> int:
        """0 if the settings have none."""
        return int(self.setting("seed") or 0)

    @property
    def knn(self) -> tuple[int, float]:
        """k and T of its kNN figures: its own, or the defaults for its data."""
        default = 200 if self.setting("data") else 20
        k, t = self.setting("evaluation.knn_k"), self.setting("evaluation.knn_t")
        return default if k is None else k, 0.1 if t is None else t

    @property
    def measured_with(self) -> dict[str, Any]:
        """The settings besides the network that its validation metric depends on."""
        return {name: self.setting(name) for name in MEASUREMENT_SETTINGS}

    @property
    def percent(self) -> Series:
        """Epoch -> its validation metric as a percentage of the teacher's; empty if not known."""
        if not self.teacher:
            return {}
        return {k: 100 * v / self.teacher for k, v in self.series(self.metric).items()}

    @property
    def final_percent(self) -> float | None:
        """The last of `percent`."""
        return next(reversed(self.percent.values()), None)


def read_runs(paths: Iterable[Path], baselines: Iterable[Path] = ()) -> list[Run]:
    """Read run directories, each of them once.

    Raises:
        ValueError: none was given, one was given twice as run and baseline, or one is unreadable.
    """
    given = {path.resolve(): path for path in paths}
    compared = {path.resolve(): path for path in baselines}
    if not given and not compared:
        raise ValueError("got no run, expected one or more run directories: mgd-ssl report RUN")
    both = sorted(given.keys() & compared.keys())
    if both:
        raise ValueError(f"got {given[both[0]]} both as a run and as --baseline; give it once")
    runs = [read_run(path) for path in given.values()]
    return runs + [read_run(path, baseline=True) for path in compared.values()]


def read_run(path: Path, *, baseline: bool = False) -> Run:
    """Read a run of pretrain.py, ``mgd-ssl classify`` or ``mgd-ssl detect``.

    Raises:
        ValueError: there is no such directory, it holds no run, or the run has no metrics.
    """
    if not path.is_dir():
        got = "which is a file" if path.exists() else "which does not exist"
        raise ValueError(f"run: got {path}, {got}; expected the directory of a run, as runs/NAME")
    if not (path / "config.yaml").is_file():
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise ValueError(
            f"run: got {path}, which holds {inside}; expected a run's config.yaml and "
            "metrics.jsonl: give the directory that a training command's --out named"
        )
    config = path / "config.yaml"
    try:
        settings = check_settings(config, read_yaml(config), COMMANDS)
        rows, notes = read_rows(path / "metrics.jsonl")
    except OSError as error:
        raise ValueError(f"run: {path} cannot be read: {error}; leave it out") from error
    if not rows:
        raise ValueError(
            f"run: {path} has no metrics yet, expected one or more rows in metrics.jsonl"
            f"{''.join(f' ({note})' for note in notes)}; wait for its first epoch, or train it "
            "again with --resume"
        )
    return Run(path, settings, rows, baseline, notes)
