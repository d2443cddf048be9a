"""Loggers of other projects, beside metrics.jsonl and TensorBoard; each package loads when used.

A new logger is a class here and its line in `LOGGERS`. Where it writes, and whether it is offline,
is the package's own matter: WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_DIR and so on.
"""

import importlib
import importlib.util
import json
import logging
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mgd_ssl.files import write_text

PROJECT = "mgd_ssl"
FILE = "loggers.json"  # in a run's directory: what each logger calls the run
MLFLOW_BATCH = 100  # the most parameters that a server takes at once
messages = logging.getLogger("mgd_ssl")


class Logger(ABC):
    """A run in another project's records.

    Attributes:
        package: to import, and to install.
        key: by which the package finds the run again; settled by `start`.
    """

    package: ClassVar[str]
    key: str

    def __init__(self) -> None:
        self.module: Any = importlib.import_module(self.package)

    @abstractmethod
    def start(self, name: str, settings: Mapping[str, Any], key: str | None) -> None:
        """Begin the run ``name``, or continue the one that ``key`` names."""

    @abstractmethod
    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """End the run."""


class Wandb(Logger):
    """Weights & Biases; rows that a resumed run writes again are dropped by it."""

    package = "wandb"

    def start(self, name: str, settings: Mapping[str, Any], key: str | None) -> None:
        """Begin or continue a run."""
        self.key = key or secrets.token_hex(4)
        self._run = self.module.init(
            project=PROJECT, name=name, id=self.key, resume="allow", config=dict(settings)
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self, failed: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=int(failed))


class MLflow(Logger):
    """MLflow's tracking, in the experiment ``mgd_ssl``."""

    package = "mlflow"

    def start(self, name: str, settings: Mapping[str, Any], key: str | None) -> None:
        """Begin or continue a run."""
        self._client = self.module.MlflowClient()
        if key:
            self.key = key
            self._client.update_run(key, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        self.key = self._client.create_run(experiment, run_name=name).info.run_id
        known = [self.module.entities.Param(k, str(v)) for k, v in settings.items()]
        for first in range(0, len(known), MLFLOW_BATCH):
            self._client.log_batch(self.key, params=known[first : first + MLFLOW_BATCH])

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        now = int(1000 * time.time())
        # its file store cannot hold both a/b and a
        named = {name.replace("/", "."): value for name, value in metrics.items()}
        made = [self.module.entities.Metric(k, v, now, step) for k, v in named.items()]
        self._client.log_batch(self.key, metrics=made)

    def close(self, failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self.key, "FAILED" if failed else "FINISHED")


class Trackio(Logger):
    """Trackio, which knows a run by its name."""

    package = "trackio"

    def start(self, name: str, settings: Mapping[str, Any], key: str | None) -> None:
        """Begin or continue a run."""
        self.key = key or f"{name}-{secrets.token_hex(3)}"
        self._run = self.module.init(
            project=PROJECT, name=self.key, resume="allow", config=dict(settings), embed=False
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self, failed: bool) -> None:
        """End the run."""
        self._run.finish()


LOGGERS: Mapping[str, type[Logger]] = {"wandb": Wandb, "mlflow": MLflow, "trackio": Trackio}


def check_installed(names: Iterable[str]) -> None:
    """Refuse a logger whose package is missing.

    Raises:
        ValueError: names the command that adds it.
    """
    for name in names:
        package = LOGGERS[name].package
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"logger: got {name}, but the package {package} is not installed; add it: "
                f"pip install {package}"
            )


class Loggers:
    """The loggers of a run; one that fails while the run trains is left out from then on.

    Args:
        names: of `LOGGERS`.
        directory: of the run, which remembers how each logger calls the run.
        settings: of the run: values by dotted name.

    Raises:
        ValueError: a logger does not start.
    """

    def __init__(self, names: Iterable[str], directory: Path, settings: Mapping[str, Any]) -> None:
        self._open: dict[str, Logger] = {}
        keys = _read_keys(directory / FILE)
        for name in names:
            try:
                one = LOGGERS[name]()
                one.start(directory.absolute().name, settings, keys.get(name))
            except Exception as error:  # each package has errors of its own
                self.close()
                raise ValueError(
                    f"logger: {name} does not start: {error}; set {name} up, or leave it out"
                ) from error
            self._open[name], keys[name] = one, one.key
        if self._open:
            write_text(directory / FILE, json.dumps(keys) + "\n")

    def write(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write a row; ``step`` counts optimizer steps, ``epoch`` is 1-based."""
        for name, one in list(self._open.items()):
            try:
                one.write(step, {"epoch": epoch, **metrics})
            except Exception as error:  # a server's trouble must not end hours of training
                del self._open[name]
                messages.warning(
                    "%s cannot be written to from step %d on (%s); metrics.jsonl has every row",
                    *(name, step, error),
                )

    def close(self) -> None:
        """End every logger's run, as failed where an exception is under way."""
        failed = sys.exc_info()[0] is not None
        for name, one in self._open.items():
            try:
                one.close(failed)
            except Exception as error:
                messages.warning("%s did not end its run: %s", name, error)


def _read_keys(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    known = found.items() if isinstance(found, dict) else ()
    return {k: v for k, v in known if k in LOGGERS and isinstance(v, str)}
