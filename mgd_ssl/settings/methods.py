"""The methods of pretrain.py: what each of them has, and what its options need."""

from collections.abc import Sequence
from typing import Any, Literal

from mgd_ssl.settings.effects import Needs, shared_rules

Method = Literal["mgd-plus", "mgd", "moco", "simreg", "seed", "compress", "disco", "simsiam"]
MATCHES = ("mgd-plus", "mgd")  # solves the matching by itself, others where a weight is given
DISTILS = (*MATCHES, "simreg", "seed", "compress", "disco")  # of no use without a teacher
CONTRASTS = ("mgd", "moco", "disco")  # compares a batch's images with each other
QUEUES = (*CONTRASTS, "seed", "compress")  # keeps embeddings of earlier batches
MOMENTUM = ("mgd", "moco")  # is MoCo itself
REGRESSES = ("mgd-plus", "simreg")  # regresses the teacher's pooled features


def matches(config: Any) -> bool:
    """Whether the matching is part of the run: of the method, or asked for beside it."""
    return config.method in MATCHES or weighed(config)


def weighed(config: Any) -> bool:
    """Whether one of the three ways to weigh the stages was chosen."""
    return bool(config.mgd.given)


# Options that some methods alone have.
OWN: dict[tuple[str, ...], tuple[str, ...]] = {
    MOMENTUM: ("moco.moco_dim", "moco.mlp"),
    QUEUES: ("moco.moco_k",),
    CONTRASTS: ("moco.moco_m", "moco.moco_t"),
    REGRESSES: ("objective.regression_head",),
    ("seed",): ("objective.seed_t", "objective.seed_teacher_t"),
    ("compress",): ("objective.compress_queues", "objective.compress_t"),
    ("disco",): ("objective.disco_hidden", "objective.disco_weight"),
    ("simsiam",): ("objective.simsiam_dim",),
}


def _of_method(options: Sequence[str], methods: Sequence[str]) -> Needs:
    def holds(config: Any) -> bool:
        return config.method in methods

    return Needs(options, holds, f"but with --method {' or '.join(methods)}")


RULES = [
    *shared_rules(
        matches,
        "where no maps are matched",
        "match the teacher's maps: --mgd-weight, --mgd-start or --mgd-loss-factor",
    ),
    *(_of_method(names, methods) for methods, names in OWN.items()),
    Needs(
        ["evaluation.eval_data", "evaluation.knn_k", "evaluation.knn_t", "evaluation.knn_bank"],
        lambda c: c.evaluation.knn_every > 0,
        "where no kNN accuracy is measured",
        "give --knn-every 1 or more",
    ),
    Needs(
        ["evaluation.health_images"],
        lambda c: c.evaluation.health_every > 0,
        "where health is not measured",
        "give --health-every 1 or more",
    ),
]
