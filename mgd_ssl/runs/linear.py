"""Linear probe of a checkpoint, on cached features or by MoCo's protocol."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mgd_ssl.data import View, random_crops
from mgd_ssl.evaluation.linear import divergence_warning, linear_probe
from mgd_ssl.evaluation.moco_linear import train_linear_classifier
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.models import read_checkpoint
from mgd_ssl.runs.evaluated_network import EvaluatedNetwork
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.evaluation import LinearEvalConfig
from mgd_ssl.settings.parsing import defaults_of
from mgd_ssl.settings.views import PRESETS
from mgd_ssl.training.checkpoint import save_checkpoint
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.schedules import LearningRate

TRIED = "learning_rates"  # of a result: those that the cached protocol chose from


def run(config: LinearEvalConfig) -> dict[str, Any]:
    """Measure, print and write the JSON; returns its content."""
    start_logging()
    evaluated = EvaluatedNetwork(config, ("the probe", "accuracy"))
    if config.protocol == "moco":
        config = _with_batch(config, len(evaluated.sources["train"]))
        evaluated.config = replace(evaluated.config, batch_size=config.batch_size)
    recipe = _recipe(config)
    path = evaluated.result_file(f"linear-{config.protocol}", recipe)
    if head := config.save_head:
        check_output_files([head], lambda: _is_head(head), "--save-head")
    measure = probe_cached if config.protocol == "cached" else train_moco
    figures = measure(config, evaluated)
    result = {**recipe, **evaluated.settings(), **figures}
    shown = {k: figures[k] for k in ("top1", "top5")}
    named = [name for name in recipe if name not in ("protocol", TRIED)]
    settings = {k: result[k] for k in ("features", "learning_rate", *named)}
    for warning in figures.get("warnings", ()):
        logger.warning("%s", warning)
    title = f"{config.checkpoint}:\nLinear accuracy, percent, {evaluated.images_used()}"
    print_table(title, [shown], settings)
    write_json(path, result)
    logger.info("written: %s", path)
    return result


def _with_batch(config: LinearEvalConfig, images: int) -> LinearEvalConfig:
    """The settings with a batch that the training images fill: the default is at most all of them.

    Raises:
        ValueError: a larger batch was given.
    """
    batch = config.batch_size
    if batch <= images:
        return config
    if batch != defaults_of(config).batch_size:
        raise ValueError(
            f"batch_size: got {batch} and {images} images to train on, expected no more than there "
            f"are; give -b {images} or less, or more images"
        )
    logger.info("steps of %d images: there are no more to train on (-b)", images)
    return replace(config, batch_size=images)


def _recipe(config: LinearEvalConfig) -> dict[str, Any]:
    """Protocol and its settings, without the learning rate that the cached protocol chooses."""
    own: dict[str, Any] = {"holdout": config.holdout, TRIED: list(config.learning_rates)}
    if config.protocol == "moco":
        own = {"learning_rate": config.lr, "schedule": list(config.schedule)}
    shared = ("epochs", "batch_size", "weight_decay", "seed")
    protocol = f"linear, {config.protocol}"
    return {"protocol": protocol, **own, **{name: getattr(config, name) for name in shared}}


def _is_head(path: Path) -> bool:
    try:
        content, _ = read_checkpoint(path)
    except ValueError:
        return False
    return set(content) == {"fc"}


def probe_cached(config: LinearEvalConfig, evaluated: EvaluatedNetwork) -> dict[str, Any]:
    """Figures of the cached protocol, and the learning rate that it chose."""
    train, val = evaluated.features("train"), evaluated.features("val")
    probe = linear_probe(
        train.features.to(evaluated.device),
        train.labels,
        val.features.to(evaluated.device),
        val.labels,
        learning_rates=config.learning_rates,
        epochs=config.epochs,
        batch_size=config.batch_size,
        weight_decay=config.weight_decay,
        holdout=config.holdout,
        seed=config.seed,
    )
    return {**probe, **_warnings(evaluated, probe["train_loss"], "--learning-rates")}


def train_moco(config: LinearEvalConfig, evaluated: EvaluatedNetwork) -> dict[str, Any]:
    """Figures of MoCo's protocol."""
    rate = LearningRate(config.lr, config.epochs, "steps", milestones=config.schedule)
    classes = int(max(evaluated.labels("train").max(), evaluated.labels("val").max())) + 1
    head = nn.Linear(cast(int, evaluated.network.num_features), classes).to(evaluated.device)
    views, size = PRESETS["linear"], evaluated.size
    view = View(views, size)
    results = train_linear_classifier(
        evaluated.network,
        head,
        evaluated.loader("train", random_crops(views, size, seed=config.seed)),
        evaluated.loader("val"),
        rate,
        fabric=evaluated.fabric,
        train_transform=lambda crops: evaluated.transform.normalize(view(crops.squeeze(1))),
        val_transform=evaluated.transform,
        weight_decay=config.weight_decay,
        seed=config.seed,
    )
    if config.save_head:
        save_checkpoint(config.save_head, {"fc": _on_cpu(head)})
    last = results[-1]
    figures = {k: last[k] for k in ("top1", "top5", "train_loss")}
    warnings = _warnings(evaluated, last["train_loss"], "--lr")
    return {**figures, **warnings, "epochs_run": results}


def _warnings(evaluated: EvaluatedNetwork, train_loss: float, option: str) -> dict[str, list[str]]:
    """The entry ``warnings`` of the JSON, if the classifier diverged."""
    warning = divergence_warning(train_loss, len(np.unique(evaluated.labels("train"))), option)
    return {"warnings": [warning]} if warning else {}


def _on_cpu(head: nn.Linear) -> dict[str, torch.Tensor]:
    return {k: v.cpu() for k, v in head.state_dict().items()}
