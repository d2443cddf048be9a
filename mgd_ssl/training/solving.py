"""The matching is solved as training goes: from which images, and what becomes of it."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgd_ssl import distributed
from mgd_ssl.distiller import StageMatching
from mgd_ssl.fabric import Fabric
from mgd_ssl.files import write_whole
from mgd_ssl.models import keeping_buffers
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.logging import logger
from mgd_ssl.training.loop import Position
from mgd_ssl.training.training_data import TrainingData

MEASURED_BATCHES = 32  # of each process, that statistics of the teacher's channels are taken of


def solve_matching(
    task: Task,
    data: TrainingData,
    here: Position,
    fabric: Fabric,
    folder: Path,
    start: float | None = None,
) -> dict[str, float]:
    """Solve every stage's assignment anew, and write costs and assignments.

    Args:
        task: with a distiller.
        data: the images that the cost is taken of.
        here: before which step.
        fabric: devices and precision.
        folder: where the assignments are written, by the first process.
        start: what each stage's loss is to begin at, by weights that the first solve chooses.

    Returns:
        Each stage's total cost, its channels that changed their group and, where it is chosen, its
        weight.
    """
    distiller = task.distiller
    assert distiller
    distributed.share_buffers(task.student)
    with fabric.autocast():
        if distiller.needs_measuring:
            task.measure(islice(data.solving_batches(here), MEASURED_BATCHES))
        solved = task.solve(data.solving_batches(here))
    first = distiller.solves == 1  # nothing was assigned before
    costs = [f"{m.name} {m.total:.3f}" + f" ({m.changed} changed)" * (not first) for m in solved]
    logger.info("matching solved before %s: total cost %s", here, "  ".join(costs))
    distributed.from_first(lambda: _write(folder, here, solved))
    metrics = {f"matching_total/{m.name}": m.total for m in solved}
    metrics |= {f"matching_changed/{m.name}": float(m.changed) for m in solved}
    if start is not None and first:
        metrics |= _calibrate(task, data, start, fabric)
    return metrics


def _write(folder: Path, here: Position, solved: Sequence[StageMatching]) -> None:
    # for the report: half the bytes, and not compressed, which takes longer than the solve
    arrays: dict[str, Any] = {f"{m.name}/cost": m.cost.float().numpy() for m in solved}
    arrays |= {f"{m.name}/assignment": m.assignment.numpy() for m in solved}
    step = f"_step_{here.step + 1:06}" if here.step else ""
    path = folder / f"epoch_{here.epoch + 1:04}{step}.npz"
    write_whole(path, lambda file: np.savez(file, **arrays))


def _calibrate(task: Task, data: TrainingData, start: float, fabric: Fabric) -> dict[str, float]:
    """Choose each stage's weight so that its loss begins at ``start``; returns the weights."""
    distiller = task.distiller
    assert distiller
    kept = keeping_buffers(task.student, distiller)  # it is run in training mode
    with torch.no_grad(), fabric.autocast(), kept:
        pairs = (pair for images in data.calibration_batches() for pair in task.map_pairs(images))
        scales = distiller.calibrate(pairs, start)
    named = zip(distiller.stages, scales, strict=True)
    return {f"matching_scale/{stage.name}": scale for stage, scale in named}
