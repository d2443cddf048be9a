"""What a run's checkpoint holds beside the networks, and the run as a checkpoint left it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgd_ssl import distributed
from mgd_ssl.settings.config_file import saved
from mgd_ssl.training.average import UNAVERAGED
from mgd_ssl.training.checkpoint import last_of, read_last
from mgd_ssl.training.logging import logger
from mgd_ssl.training.loop import Position
from mgd_ssl.training.meter import LossSums
from mgd_ssl.training.restoring import check_average, check_optimizer, restore_module
from mgd_ssl.training.run_files import CONFIG
from mgd_ssl.training.same_run import check_same_run

FREQUENCIES = ("knn_every", "health_every", "best")  # options that change no figure

if TYPE_CHECKING:
    from mgd_ssl.training.run import TrainingRun


def content_of(run: "TrainingRun[Any, Any]", position: Position) -> dict[str, Any]:
    """The checkpoint of a run at a position."""
    distiller = run.task.distiller
    average = {UNAVERAGED: run.average.state()} if run.average else {}
    return (
        run.networks()
        | average
        | {
            "config": saved(run.config),
            "distiller": distiller.state_dict() if distiller else None,
            "epoch": position.epoch,
            "optimizer": run.optimizer.state_dict(),
            "precision": run.fabric.strategy.precision.state_dict(),
            "progress": {
                "epoch": position.epoch,
                "step": position.step,
                "summed": asdict(position.summed),
                "best": run.best,
                "metric": run.metric,
            },
            "steps_per_epoch": run.steps,
            **run.sources,
        }
    )


def read_everywhere(checkpoints: Path) -> dict[str, Any] | None:
    """The last checkpoint, read by every process; None without one.

    Raises:
        ValueError: see `read_last`; or the processes found different ones.
    """
    content = distributed.together(lambda: read_last(checkpoints))
    progress = content["progress"] if content else {}
    places = distributed.gather_list([(progress.get("epoch"), progress.get("step"))])
    if len(set(places)) > 1:
        found = "; ".join("none" if e is None else f"epoch {e}, step {s}" for e, s in places)
        raise ValueError(
            f"resume: got different checkpoints in {checkpoints} on the processes ({found}), "
            "expected the same: --out must be on a disk that all machines share"
        )
    return content


def _measured_alike(run: "TrainingRun[Any, Any]", content: dict[str, Any]) -> bool:
    """Whether figures of the checkpoint can be compared with the run's; says where they cannot."""
    before, now = (
        config.get("evaluation", {}) for config in (content["config"], saved(run.config))
    )
    differ = [name for name in now if name in before and before[name] != now[name]]
    differ = [name for name in differ if name not in FREQUENCIES]
    if differ:
        others = ", ".join(f"--{name.replace('_', '-')}" for name in differ)
        logger.info("best.pt is chosen anew from here on: other %s than before", others)
    return not differ


def restore_run(run: "TrainingRun[Any, Any]", content: dict[str, Any]) -> Position:
    """Counterpart of `content_of`, but for the optimizer, which is set up later.

    Raises:
        ValueError: the checkpoint is of another run, or does not fit.
    """
    check_same_run(run.config, content, run.sources, run.steps, run.directory.path / CONFIG)
    run.restore(content)
    last = last_of(run.directory.checkpoints)
    if run.average:
        check_average(last, content)
        run.average.resume(content[UNAVERAGED]["steps"])
        unaveraged = content[UNAVERAGED]["student"]
        restore_module(run.task.student, unaveraged, last, f"{UNAVERAGED}.student")
    if run.task.distiller:
        state = content["distiller"] or {}
        restore_module(run.task.distiller, state, last, "distiller")
    check_optimizer(run.optimizer, content["optimizer"], last)
    progress = content["progress"]
    if progress.get("metric", type(run).metric) == run.metric and _measured_alike(run, content):
        run.best = progress["best"]
    summed = LossSums(**progress.get("summed", {}))
    position = Position(progress["epoch"], progress["step"], summed)
    logger.info("resumed at %s", position)
    return position
