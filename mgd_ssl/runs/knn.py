"""kNN accuracy of a checkpoint, and retrieval examples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgd_ssl.evaluation.features import Features
from mgd_ssl.evaluation.knn import knn_sweep
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.evaluation.retrieval import neighbors, retrieval_scores
from mgd_ssl.runs.evaluated_network import EvaluatedNetwork
from mgd_ssl.runs.unlabeled import figures_without_labels, in_words
from mgd_ssl.settings.evaluation import KnnConfig
from mgd_ssl.settings.parsing import defaults_of
from mgd_ssl.training.logging import logger, start_logging

PRECISION_AT = (1, 5, 10)  # neighbors, as far as the bank holds so many


def run(config: KnnConfig) -> dict[str, Any]:
    """Measure, print, draw and write the JSON; returns its content."""
    start_logging()
    evaluated = EvaluatedNetwork(config, ("the bank", "kNN"), unlabeled=True)
    config = _with_neighbors(config, len(evaluated.sources["train"]))
    measure = _measure_votes if evaluated.has_labels else _look
    return measure(config, evaluated)


def _measure_votes(config: KnnConfig, evaluated: EvaluatedNetwork) -> dict[str, Any]:
    ks = _vote_sizes(config, len(evaluated.sources["train"]))
    recipe = {
        "protocol": f"kNN, {config.protocol}",
        "knn_k": list(ks),
        "knn_t": list(config.knn_t),
    }
    path = evaluated.result_file("knn", recipe, picture=config.retrieve > 0)
    bank, queries = evaluated.features("train"), evaluated.features("val")
    ks = _up_to(len(bank.labels), ks)
    rows = knn_sweep(
        bank.features.to(evaluated.device),
        bank.labels.to(evaluated.device),
        queries.features.to(evaluated.device),
        queries.labels.to(evaluated.device),
        ks=ks,
        temperatures=config.knn_t,
    )
    result: dict[str, Any] = {**recipe, **evaluated.settings(), "knn": rows}
    conditions = {name: result[name] for name in ("protocol", "features", "size")}
    title = f"{config.checkpoint}:\nkNN accuracy, percent, {evaluated.images_used()}"
    print_table(title, rows, conditions)
    if config.retrieve:
        result["retrieval"] = _retrieval_scores(bank, queries)
        print_table("Retrieval, percent", [result["retrieval"]])
    _written(path, result)
    if config.retrieve:
        draw(config, evaluated, bank, queries, path.with_suffix(".png"))
    return result


def _look(config: KnnConfig, evaluated: EvaluatedNetwork) -> dict[str, Any]:
    """What can be said without labels; pictures of neighbors, where they are wanted."""
    recipe = {"protocol": "neighbors without labels"}
    path = evaluated.result_file("knn", recipe, picture=config.retrieve > 0)
    bank = evaluated.features("train")
    figures = figures_without_labels(evaluated, bank)
    result = {**recipe, **evaluated.settings(), "unlabeled": figures, "drawn": config.retrieve}
    conditions = {name: result[name] for name in ("features", "size")}
    title = f"{config.checkpoint}:\nWithout labels, {evaluated.images_used()}"
    print_table(title, in_words(figures), conditions)
    _written(path, result)
    if config.retrieve:
        draw(config, evaluated, bank, evaluated.features("val"), path.with_suffix(".png"))
    else:
        logger.info("to see neighbors of some images, add --retrieve 10")
    return result


def _written(path: Path, result: dict[str, Any]) -> None:
    write_json(path, result)
    logger.info("written: %s", path)


def _vote_sizes(config: KnnConfig, bank: int) -> tuple[int, ...]:
    """Numbers of neighbors that vote: those given, or the defaults up to the bank's size.

    Raises:
        ValueError: a number was given that the bank does not hold.
    """
    ks = config.knn_k
    usual = defaults_of(config).knn_k
    if ks == usual and max(ks) > bank and min(ks) <= bank:
        ks = tuple(k for k in ks if k <= bank)
        logger.info("kNN at k %s: the bank holds %d images", _listed(ks), bank)
    _check_bank("knn_k", max(ks), bank)
    return ks


def _up_to(bank: int, ks: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of neighbors, each at most that of the images of the bank that could be decoded."""
    held = tuple(dict.fromkeys(min(k, bank) for k in ks))
    if max(ks) > bank:
        logger.warning("kNN at k %s: of the bank %d images were decoded", _listed(held), bank)
    return held


def _listed(ks: tuple[int, ...]) -> str:
    return ", ".join(map(str, ks))


def _with_neighbors(config: KnnConfig, bank: int) -> KnnConfig:
    """The settings with as many neighbors to draw as the bank holds, if none were asked for.

    Raises:
        ValueError: a number was given that the bank does not hold.
    """
    if not config.retrieve:
        return config
    if config.neighbors == defaults_of(config).neighbors:
        return replace(config, neighbors=min(config.neighbors, bank))
    _check_bank("neighbors", config.neighbors, bank)
    return config


def _check_bank(name: str, most: int, bank: int) -> None:
    if most > bank:
        raise ValueError(
            f"{name}: got {most} neighbors and a bank of {bank} images, expected 1 to "
            f"{bank}; give smaller --{name.replace('_', '-')}"
        )


def _retrieval_scores(bank: Features, queries: Features) -> dict[str, float]:
    """Scores over all queries, without mAP where it is of none."""
    ks = [k for k in PRECISION_AT if k <= len(bank.labels)]
    if torch.isin(queries.labels, bank.labels).any():
        return retrieval_scores(queries.features, bank.features, queries.labels, bank.labels, ks=ks)
    count = len(queries.labels)
    logger.warning(
        "retrieval: none of %d queries has an image of its class in the bank; mAP is left out",
        count,
    )
    return {**{f"precision@{k}": 0.0 for k in ks}, "queries_without_match": float(count)}


def draw(
    config: KnnConfig, evaluated: EvaluatedNetwork, bank: Features, queries: Features, path: Path
) -> None:
    """A picture of some queries, chosen by the seed, with their neighbors."""
    from mgd_ssl.evaluation.picture import retrieval_picture  # loads matplotlib

    generator = torch.Generator().manual_seed(config.seed)
    shown = torch.randperm(len(queries.labels), generator=generator)[: config.retrieve]
    count = min(config.neighbors, len(bank.indices))  # not every image can be decoded
    found = neighbors(queries.features[shown], bank.features, count)
    pictures = [_images(evaluated, "train", bank.indices[row]) for row in found.indices]
    retrieval_picture(
        _images(evaluated, "val", queries.indices[shown]),
        torch.stack(pictures),
        bank.labels[found.indices] == queries.labels[shown, None] if evaluated.has_labels else None,
        path,
    )
    logger.info("written: %s", path)


def _images(evaluated: EvaluatedNetwork, split: str, indices: Tensor) -> Tensor:
    """(N,3,S,S) uint8, as the network sees them."""
    dataset = evaluated.loader(split).dataset
    return torch.stack([dataset[int(i)].image for i in indices])
