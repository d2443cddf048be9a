"""What can be said of a network on images without labels: spread, agreement, duplicates."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgd_ssl.data import decoding_workers
from mgd_ssl.data.duplicates import find_duplicates
from mgd_ssl.evaluation.features import Features
from mgd_ssl.evaluation.health import effective_rank, feature_deviation
from mgd_ssl.evaluation.online_health import AGREEMENT
from mgd_ssl.evaluation.results import format_value
from mgd_ssl.models import read_checkpoint
from mgd_ssl.runs.evaluated_network import EvaluatedNetwork
from mgd_ssl.training.logging import logger

WORDS = {  # a figure -> what it is called on the screen, and what it says
    "agreement_with_teacher": ("agreement", "% of nearest neighbors shared with the teacher"),
    "effective_rank": ("effective rank", "directions that the features use"),
    "deviation": ("deviation", "spread of the normalized features; collapsed below 0.02"),
    "same_as_train": ("same as train", "val images that are in train too"),
    "like_train": ("like train", "val images that resemble one of train"),
}


def figures_without_labels(evaluated: EvaluatedNetwork, bank: Features) -> dict[str, Any]:
    """Spread of the bank's features, agreement with the teacher as the run measured it, duplicates.

    The duplicates are val images that equal or resemble a train image: they have an easy neighbor.
    """
    found = find_duplicates(
        evaluated.sources["val"],
        evaluated.sources["train"],
        workers=max(1, decoding_workers(evaluated.config.workers)),
    )
    agreement = recorded_agreement(evaluated.config.checkpoint)
    if not agreement:
        logger.info("agreement with a teacher: none is recorded beside the checkpoint")
    return {
        **agreement,
        "effective_rank": effective_rank(bank.features),
        "deviation": feature_deviation(bank.features),
        "same_as_train": len(found.exact),
        "like_train": len(found.near),
    }


def in_words(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table: each figure with its name and what it says."""
    rows = [(*WORDS[key], value) for key, value in figures.items() if key in WORDS]
    found = [{"figure": n, "value": format_value(v), "what it says": s} for n, s, v in rows]
    if "agreement_with_teacher" in figures:
        found[0]["what it says"] += f", {_measured_on(figures)}"
    return found


def _measured_on(figures: Mapping[str, Any]) -> str:
    """Where the agreement is from: it is no figure of these images."""
    k, images = (figures.get(f"agreement_{name}") for name in ("neighbors", "images"))
    if not (k and images):
        return "in training"
    return f"in training: {k} among {images} images, {100 * k / (images - 1):.1f} by chance"


def recorded_agreement(checkpoint: Path) -> dict[str, Any]:
    """The percentage of neighbors that student and teacher have in common, as the run measured it.

    Beside it the numbers of neighbors and of images, where the run wrote them. Of a checkpoint it
    is that of its epoch, of an exported student that of the last. Empty where the file is in no
    run's directory, or the run measured none then.
    """
    path = checkpoint.resolve()
    is_checkpoint = path.is_file() and path.parent.name == "checkpoints"
    run = path.parent.parent if is_checkpoint else path.parent
    rows = [row for row in _rows(run / "metrics.jsonl") if isinstance(row.get(AGREEMENT), float)]
    epoch = read_checkpoint(path)[0].get("epoch") if is_checkpoint and rows else None
    for row in reversed(rows):
        if epoch in (None, row.get("epoch")):
            numbers = {name: row.get(f"health_{name}") for name in ("neighbors", "images")}
            counts = {f"agreement_{k}": int(v) for k, v in numbers.items() if v}
            return {"agreement_with_teacher": 100 * row[AGREEMENT], **counts}
    return {}


def _rows(metrics: Path) -> list[dict[str, Any]]:
    """The rows that a run wrote; none without a file."""
    rows = []
    if metrics.is_file():
        for line in metrics.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # half a row, of a killed run
                rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
