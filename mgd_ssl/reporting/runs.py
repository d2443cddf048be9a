"""Read a run directory: its settings, its metrics, and how good its teacher is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

from mgd_ssl.reporting.reading import check_entries, entry, is_number, place, read_rows, read_yaml

Kind = Literal["pretrain", "classify", "detect"]
Role = Literal["distilled", "baseline", "alone"]
# The figure that each command chooses best.pt by, and its name in words.
FIGURES: dict[Kind, tuple[str, str]] = {
    "pretrain": ("val_knn_top1", "kNN accuracy"),
    "classify": ("val_top1", "top-1 accuracy"),
    "detect": ("val_AP", "average precision"),
}
COMMANDS: dict[Kind, str] = {
    "pretrain": "python pretrain.py",
    "classify": "mgd-ssl classify",
    "detect": "mgd-ssl detect",
}
# The teacher's figure on the same images, in metrics.jsonl.
TEACHERS = {"pretrain": "teacher_knn_top1", "classify": "teacher_top1", "detect": "teacher_AP"}
PERCENT = "val_knn_top1_percent_of_teacher"
# What runs said that did not write it there.
TEACHER_LINE = re.compile(r"teacher: (?:kNN )?top-1 (\d+\.\d+) %")
Series = dict[float, float]
# Settings that a validation figure depends on, beside the network.
MEASURING = (
    *("data", "loader.train_folder", "loader.val_folder", "evaluation.eval_data"),
    *("evaluation.knn_k", "evaluation.knn_t", "evaluation.knn_bank"),
)


@dataclass(frozen=True)
class Run:
    """A run directory as it was found.

    Attributes:
        path: as it was given.
        config: of config.yaml.
        rows: of metrics.jsonl, in order; finite numbers by name.
        log: text of train.log, empty where there is none.
        baseline: whether it was given as one to compare with.
        notes: what of its files is left out, in words.
    """

    path: Path
    config: Mapping[str, Any]
    rows: list[dict[str, float]]
    log: str = ""
    baseline: bool = False
    notes: Sequence[str] = ()

    def setting(self, name: str) -> Any:
        """A setting by its dotted name; None where the run has none of it."""
        return entry(self.config, name)

    @property
    def kind(self) -> Kind:
        """Which command wrote it; older runs tell it by the settings that it alone has."""
        command = self.config.get("command")
        if command in get_args(Kind):
            return cast(Kind, command)
        if "kd" in self.config:
            return "classify"
        return "detect" if "levels" in self.config else "pretrain"

    @property
    def role(self) -> Role:
        """What it is to the reader."""
        if self.baseline:
            return "baseline"
        return "distilled" if self.setting("teacher.teacher") else "alone"

    @property
    def metric(self) -> str:
        """Name of its validation figure in metrics.jsonl."""
        return FIGURES[self.kind][0]

    @property
    def epochs(self) -> int:
        """Epochs that it is to have in the end."""
        later = self.setting("optim.warmup_epochs") if self.kind == "classify" else 0
        return int(self.setting("optim.epochs") or 0) + int(later or 0)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return int(max(self.series("train_loss"), default=0))

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done."""
        return self.epoch >= self.epochs

    def series(self, name: str) -> Series:
        """Epoch -> finite value of a metric; the epoch counts from 1 and is whole at its end."""
        found = {round(row["epoch"], 3): float(row[name]) for row in self.rows if name in row}
        return dict(sorted(found.items()))

    @cached_property
    def names(self) -> list[str]:
        """Metrics that it has, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def last(self, name: str) -> float | None:
        """The last value of a metric; None where it was never measured."""
        return next(reversed(self.series(name).values()), None)

    @cached_property
    def teacher(self) -> float | None:
        """The teacher's figure on the run's validation images, in percent; None if not known."""
        known = self.last(TEACHERS[self.kind])
        if known is not None:
            return known
        figure, percent = self.last(self.metric), self.last(PERCENT)
        if self.kind == "pretrain" and figure and percent:
            return 100 * figure / percent
        said = [float(figure) for figure in TEACHER_LINE.findall(self.log)]
        return said[-1] if said and is_number(said[-1]) else self._teachers_own()

    def _teachers_own(self) -> float | None:
        """The figure of the teacher's own run, where that is at hand and on the same data."""
        checkpoint = place(self.setting("teacher.teacher") or "")
        if checkpoint is None:
            return None
        home = checkpoint.parent.parent
        if checkpoint.parent.name != "checkpoints" or not (home / "metrics.jsonl").is_file():
            return None
        try:
            run = read_run(home)
        except (ValueError, OSError):  # the report is not about the teacher's run
            return None
        if run.kind != self.kind or run.measured_on != self.measured_on:
            return None
        figures = run.series(run.metric).values()
        return run.last(run.metric) if checkpoint.name == "last.pt" else max(figures, default=None)

    @property
    def seed(self) -> int:
        """0 where the settings have none."""
        return int(self.setting("seed") or 0)

    @property
    def knn(self) -> tuple[int, float]:
        """k and T of its kNN figures: its own, else the defaults for its data."""
        default = 20 if self.setting("data") is None else 200
        k, t = self.setting("evaluation.knn_k"), self.setting("evaluation.knn_t")
        return default if k is None else k, 0.1 if t is None else t

    @property
    def measured_on(self) -> dict[str, Any]:
        """The settings that a validation figure depends on, beside the network."""
        return {name: self.setting(name) for name in MEASURING}

    @property
    def percent(self) -> Series:
        """Epoch -> its validation figure as per cent of the teacher's; empty if not known."""
        if not self.teacher:
            return {}
        return {k: 100 * v / self.teacher for k, v in self.series(self.metric).items()}


def read_runs(paths: Iterable[Path], baselines: Iterable[Path] = ()) -> list[Run]:
    """Read run directories, each once.

    Raises:
        ValueError: none was given, one was given as both kinds, or one cannot be read.
    """
    given = {path.resolve(): path for path in paths}
    compared = {path.resolve(): path for path in baselines}
    if not given and not compared:
        raise ValueError("got no run, expected one or more run directories: mgd-ssl report RUN")
    both = sorted(given.keys() & compared.keys())
    if both:
        raise ValueError(
            f"got {given[both[0]]} as a run and as --baseline, expected one of them; give it once"
        )
    runs = [read_run(path) for path in given.values()]
    return runs + [read_run(path, baseline=True) for path in compared.values()]


def read_run(path: Path, *, baseline: bool = False) -> Run:
    """Read what pretrain.py, ``mgd-ssl classify`` or ``mgd-ssl detect`` wrote.

    Raises:
        ValueError: there is no such directory, it holds no run, or a run without metrics.
    """
    if not path.is_dir():
        got = "which is a file" if path.exists() else "which does not exist"
        raise ValueError(f"run: got {path}, {got}; expected the directory of a run, as runs/NAME")
    if not (path / "config.yaml").is_file():
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise ValueError(
            f"run: got {path}, which holds {inside}; expected a run's config.yaml and "
            "metrics.jsonl: give one directory that --out of a training command named"
        )
    config = path / "config.yaml"
    try:
        settings = check_entries(config, read_yaml(config))
        rows, notes = read_rows(path / "metrics.jsonl")
        log = path / "train.log"
        text = log.read_text("utf-8", errors="replace") if log.is_file() else ""
    except OSError as error:
        raise ValueError(f"run: {path} cannot be read: {error}; leave it out") from error
    if not rows:
        raise ValueError(
            f"run: {path} has no metrics yet, expected a row or more in metrics.jsonl"
            f"{''.join(f' ({note})' for note in notes)}; wait for its first epoch, or train it "
            "again with --resume"
        )
    return Run(path, settings, rows, text, baseline, notes)
