"""Run directories written by hand, whose figures are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SETTINGS: dict[str, Any] = {
    "command": "pretrain",
    "data": None,
    "method": "mgd",
    "network": {"arch": "resnet18", "width": 0.125},
    "teacher": {"teacher": "teacher.pth.tar"},
    "mgd": {"mgd_reducer": "amp"},
    "optim": {"epochs": 2, "batch_size": 8, "lr": 0.1, "warmup_epochs": 0},
    "loader": {"size": 32, "workers": 4},
    "evaluation": {"knn_k": 20, "knn_t": 0.1},
    "device": {"precision": "32"},
}


def write_run(
    path: Path, figure: float | None = 60.0, seed: int = 0, *, of: float = 80.0, **more: Any
) -> Path:
    """A pretraining run of two epochs that ends at a kNN accuracy; None leaves it unmeasured.

    The teacher's is ``of``.
    """
    path.mkdir(parents=True)
    settings = {**SETTINGS, "seed": seed, "out": str(path), **more}
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    rows: list[dict[str, Any]] = [
        {"train_loss": 3.0, "train_loss/contrastive": 2.0, "train_loss/matching/layer1": 1.0},
        {"train_loss": 1.5, "train_loss/contrastive": 1.0, "train_loss/matching/layer1": 0.5},
    ]
    for epoch, row in enumerate(rows, 1):
        row |= {"step": epoch * 4, "epoch": float(epoch), "time": 0.0, "images_per_second": 100.0}
        row["peak_memory_gib"] = 1.5
        row |= {"health/cka": 0.25 * epoch}
        if figure is not None:
            known = figure - 10 * (2 - epoch)
            row |= {"val_knn_top1": known}
    if figure is not None and settings["teacher"]["teacher"]:
        rows[0]["teacher_knn_top1"] = of
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(text)
    return path


def write_solve(
    run: Path, epoch: int, cost: list[list[float]], assignment: list[list[int]]
) -> None:
    """One solve of the stage layer1."""
    (run / "matching").mkdir(exist_ok=True)
    arrays = {"layer1/cost": np.array(cost), "layer1/assignment": np.array(assignment)}
    np.savez_compressed(run / "matching" / f"epoch_{epoch:04}.npz", **arrays)


ALONE = {"method": "moco", "teacher": {"teacher": None}}
