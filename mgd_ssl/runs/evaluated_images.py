"""The images that an evaluator measures on: with labels or without, in two parts."""

from mgd_ssl.data import ImageSource, open_sources, subset
from mgd_ssl.runs.val_part import Parts, with_val_part
from mgd_ssl.settings.evaluation import EvaluationConfig
from mgd_ssl.training.logging import logger


def open_images(config: EvaluationConfig, *, unlabeled: bool = False) -> Parts:
    """Open both parts; where the data has no val part, a fifth of train is split off by name.

    Args:
        config: of the evaluator.
        unlabeled: whether images without labels are of use.

    Raises:
        ValueError: the data cannot be opened, or has no labels where they are needed.
    """
    train = _open_train(config, unlabeled)
    parts = with_val_part(train, config.data, config.folders.opening, config.seed)
    train, val, split = parts
    if split:
        logger.info(
            "%s; a student pretrained on this data has seen them, without labels", parts.in_words
        )
    train = subset(train, config.limit, config.seed) if config.limit else train
    val = subset(val, config.limit_val, config.seed) if config.limit_val else val
    return Parts(train, val, split)


def _open_train(config: EvaluationConfig, unlabeled: bool) -> ImageSource:
    opening = config.folders.opening
    try:
        return open_sources(config.data, "train", labeled=True, **opening)
    except ValueError as error:
        source = open_sources(config.data, "train", **opening)  # what else is wrong is said alone
        if not unlabeled:
            raise ValueError(
                f"{error} To see the neighbors of images without labels: knn_eval.py CHECKPOINT "
                "DATA --retrieve 10"
            ) from error
        why = str(error).partition(";")[0]
        logger.warning("no accuracy is measured: %s", why)
        return source
