"""The objective of a pretraining run, and the batch that it needs."""

from typing import Any, cast

from torch import nn

from mgd_ssl.models import KeyReport, split_batch_norms
from mgd_ssl.objectives import SEED, CompRess, DisCo, MoCo, Objective, SimReg, SimSiam
from mgd_ssl.objectives.simreg import Head
from mgd_ssl.settings.methods import CONTRASTS, QUEUES
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.logging import logger


def build_objective(
    config: PretrainConfig, student: nn.Module, report: KeyReport | None
) -> Objective:
    """What drives the student; MoCo and DisCo put a head in its classifier's place."""
    moco, options = config.moco, config.objective
    queue, features = cast(int, moco.moco_k), cast(int, student.num_features)
    momentum: dict[str, Any] = {
        "queue_size": queue,
        "momentum": moco.moco_m,
        "temperature": moco.moco_t,
    }
    if config.method in ("mgd", "moco"):
        return MoCo(student, dim=moco.moco_dim, mlp=moco.mlp, **momentum)
    if config.method == "simsiam":
        return SimSiam(features, options.simsiam_dim)
    assert report is not None
    target = report.features
    if config.method in ("mgd-plus", "simreg"):
        return SimReg(features, target, cast(Head, options.regression_head))
    if config.method == "seed":
        return SEED(features, target, queue, options.seed_t, options.seed_teacher_t)
    if config.method == "compress":
        return CompRess(features, target, queue, options.compress_queues, options.compress_t)
    hidden, weight = options.disco_hidden, options.disco_weight
    return DisCo(student, target, hidden, weight, **momentum)


def split_norms(config: PretrainConfig, student: nn.Module, world_size: int) -> int:
    """Split the batch norms where one process contrasts a batch's images with each other.

    Returns:
        Parts of a process's batch that are normalised apart.
    """
    alone = world_size == 1 and config.method in CONTRASTS
    splits = config.moco.bn_splits or (8 if alone else 1)
    others = split_batch_norms(student, splits)
    if others and splits > 1:
        logger.warning("%d batch norms cannot be split; keys may leak through them", others)
    _check_batch(config, world_size, splits)
    return splits


def _check_batch(config: PretrainConfig, world_size: int, splits: int) -> None:
    batch, queue = cast(int, config.optim.batch_size), cast(int, config.moco.moco_k)
    if batch < 1 or batch % (world_size * splits):
        raise ValueError(
            f"batch_size: got {batch} on {world_size} processes with {splits} batch norm splits, "
            f"expected a multiple of {world_size * splits}; change --batch-size or --bn-splits"
        )
    if config.method in QUEUES and (queue < batch or queue % batch):
        raise ValueError(
            f"moco_k: got a queue of {queue} keys and batches of {batch}, expected a queue "
            f"divisible by the batch; nearest --moco-k {max(1, round(queue / batch)) * batch}"
        )
