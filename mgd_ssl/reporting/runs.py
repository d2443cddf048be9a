"""Read a run directory: its settings, its metrics, and how good its teacher is."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

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
PERCENT = "val_knn_top1_percent_of_teacher"
TEACHER_LINE = re.compile(r"teacher: (?:kNN )?top-1 (\d+\.\d+) %")
Series = dict[float, float]


@dataclass(frozen=True)
class Run:
    """A run directory as it was found.

    Attributes:
        path: as it was given.
        config: of config.yaml.
        rows: of metrics.jsonl, in order; a half-written last one is left out.
        log: text of train.log, empty where there is none.
        baseline: whether it was given as one to compare with.
    """

    path: Path
    config: Mapping[str, Any]
    rows: list[dict[str, Any]]
    log: str = ""
    baseline: bool = False

    def setting(self, name: str) -> Any:
        """A setting by its dotted name; None where the run has none of it."""
        value: Any = self.config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    @property
    def kind(self) -> Kind:
        """Which command wrote it, told by the settings that it alone has."""
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
        found = {round(row["epoch"], 3): row[name] for row in self.rows if name in row}
        return {epoch: float(v) for epoch, v in found.items() if _is_number(v)}

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
        figure, percent = self.last(self.metric), self.last(PERCENT)
        if self.kind == "pretrain" and figure and percent:
            return 100 * figure / percent
        said = TEACHER_LINE.findall(self.log)
        return float(said[-1]) if said else self._teachers_own()

    def _teachers_own(self) -> float | None:
        """The figure of the teacher's own run, where that is at hand and on the same data."""
        checkpoint = Path(str(self.setting("teacher.teacher")))
        home = checkpoint.parent.parent
        if checkpoint.parent.name != "checkpoints" or not (home / "metrics.jsonl").is_file():
            return None
        try:
            run = read_run(home)
        except ValueError:  # the report is not about the teacher's run
            return None
        if (run.kind, run.setting("data")) != (self.kind, self.setting("data")):
            return None
        figures = run.series(run.metric).values()
        return run.last(run.metric) if checkpoint.name == "last.pt" else max(figures, default=None)

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
    log = path / "train.log"
    text = log.read_text(errors="replace") if log.is_file() else ""
    return Run(path, _read_config(path / "config.yaml"), _read_metrics(path), text, baseline)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: got no YAML ({error}), expected a run's settings") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("optim"), Mapping):
        raise ValueError(
            f"{path}: got settings without an optim section, expected those of pretrain.py, "
            "mgd-ssl classify or mgd-ssl detect"
        )
    return content


def _read_metrics(directory: Path) -> list[dict[str, Any]]:
    path = directory / "metrics.jsonl"
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    rows = [_read_row(path, i, line, len(lines)) for i, line in enumerate(lines, 1)]
    whole = [row for row in rows if row]
    if not whole:
        raise ValueError(
            f"run: {directory} has no metrics yet, expected a row or more in {path.name}; wait for "
            "its first epoch, or train it again with --resume"
        )
    return whole


def _read_row(path: Path, number: int, line: str, last: int) -> dict[str, Any]:
    """A row; empty for a blank line, and for a last one that a kill or a writer left half."""
    try:
        row = json.loads(line) if line.strip() else {}
    except ValueError as error:
        if number == last:
            return {}
        raise ValueError(
            f"{path}, line {number}: got no JSON ({error}), expected a row of metrics; delete it"
        ) from error
    if row and not (isinstance(row, dict) and _is_number(row.get("epoch"))):
        raise ValueError(f"{path}, line {number}: got no epoch, expected a row of metrics")
    return dict(row)


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
