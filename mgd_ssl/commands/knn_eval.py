"""kNN accuracy and retrieval checks of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgd_ssl.commands.effects import Needs
from mgd_ssl.commands.evaluated import Evaluated, EvaluationConfig
from mgd_ssl.commands.options import parse
from mgd_ssl.commands.terminal import guarded
from mgd_ssl.evaluation import (
    Features,
    knn_sweep,
    neighbours,
    retrieval_picture,
    retrieval_scores,
)
from mgd_ssl.evaluation.report import print_table, write_json
from mgd_ssl.training.logging import logger, start_logging

USUAL_K = (1, 10, 20, 100, 200)


@dataclass(frozen=True)
class KnnConfig(EvaluationConfig):
    """kNN accuracy of a checkpoint: exact cosine neighbours, votes weighted by exp(cosine/T)."""

    knn_k: tuple[int, ...] = USUAL_K
    """Neighbours that vote; of the usual ones those that the bank holds."""
    knn_t: tuple[float, ...] = (0.1, 0.07)
    """Temperatures of the votes."""
    retrieve: int = 0
    """Draw this many queries with their nearest neighbours, and measure precision@k and mAP."""
    neighbours: int = 10
    """Neighbours drawn for each query."""

    def check(self) -> None:
        """Refuse what is out of range, and what has no effect."""
        super().check()
        if not self.knn_k or not self.knn_t or self.retrieve < 0 or self.neighbours < 1:
            raise ValueError(
                "expected one or more of --knn-k and --knn-t, --retrieve 0 or more, --neighbours "
                "1 or more"
            )
        if min(self.knn_t) <= 0:
            raise ValueError(f"knn_t: got {min(self.knn_t)}, expected above 0")

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        retrieve = Needs(["neighbours"], lambda c: c.retrieve > 0, "without --retrieve", "add it")
        return [*super().rules(), retrieve]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(KnnConfig, "knn_eval.py", argv)), "knn-eval", argv)


def run(config: KnnConfig) -> dict[str, Any]:
    """Measure, print, draw, write the JSON; returns what was written."""
    start_logging()
    evaluated = Evaluated(config, ("the bank", "kNN"))
    ks = _fitting(config, len(evaluated.sources["train"]))
    recipe = {"protocol": "kNN, exact cosine, weighted vote"}
    path = evaluated.result_path("knn", recipe, picture=config.retrieve > 0)
    bank, queries = evaluated.features("train"), evaluated.features("val")
    rows = knn_sweep(
        bank.features.to(evaluated.device),
        bank.labels.to(evaluated.device),
        queries.features.to(evaluated.device),
        queries.labels.to(evaluated.device),
        ks=ks,
        temperatures=config.knn_t,
    )
    result: dict[str, Any] = {**recipe, **evaluated.settings(), "knn": rows}
    print_table(f"kNN accuracy, per cent, {evaluated.coverage()}: {config.checkpoint}", rows)
    if config.retrieve:
        picture = path.with_suffix(".png")
        result["retrieval"] = retrieve(config, evaluated, bank, queries, picture)
        print_table("Retrieval, per cent", [result["retrieval"]])
    write_json(path, result)
    logger.info("written: %s", path)
    return result


def _fitting(config: KnnConfig, bank: int) -> tuple[int, ...]:
    """The numbers of neighbours that vote: those asked for, or the usual ones that there are.

    Raises:
        ValueError: more neighbours are asked for than the bank holds.
    """
    ks = config.knn_k
    if ks == USUAL_K and max(ks) > bank:
        ks = tuple(k for k in ks if k <= bank)
        logger.info("kNN at k %s: the bank holds %d images", ", ".join(map(str, ks)), bank)
    for name, most in (
        ("knn_k", max(ks)),
        ("neighbours", config.neighbours * (config.retrieve > 0)),
    ):
        if most > bank:
            raise ValueError(
                f"{name}: got {most} neighbours and a bank of {bank} images, expected 1 to "
                f"{bank}; give smaller --{name.replace('_', '-')}"
            )
    if min(ks) < 1:
        raise ValueError(f"knn_k: got {min(ks)} neighbours, expected 1 or more")
    return ks


def retrieve(
    config: KnnConfig, evaluated: Evaluated, bank: Features, queries: Features, path: Path
) -> dict[str, float]:
    """Scores over all queries, and a picture of some, chosen by the seed."""
    scores = retrieval_scores(queries.features, bank.features, queries.labels, bank.labels)
    generator = torch.Generator().manual_seed(config.seed)
    shown = torch.randperm(len(queries.labels), generator=generator)[: config.retrieve]
    found = neighbours(queries.features[shown], bank.features, config.neighbours)
    pictures = [_images(evaluated, "train", bank.indices[row]) for row in found.indices]
    retrieval_picture(
        _images(evaluated, "val", queries.indices[shown]),
        torch.stack(pictures),
        bank.labels[found.indices] == queries.labels[shown, None],
        path,
    )
    logger.info("written: %s", path)
    return scores


def _images(evaluated: Evaluated, split: str, indices: Tensor) -> Tensor:
    """(N,3,S,S) uint8, as the network saw them."""
    dataset = evaluated.loader(split).dataset
    return torch.stack([dataset[int(i)].image for i in indices])


if __name__ == "__main__":
    raise SystemExit(main())
