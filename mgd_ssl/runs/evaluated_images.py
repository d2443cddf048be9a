"""The images that an evaluator measures on: with labels or without, in two parts."""

from typing import NamedTuple

from mgd_ssl.data import ImageSource, NoValidationError, open_sources, subset
from mgd_ssl.data.splitting import SHARE, split_by_name
from mgd_ssl.settings.evaluation import EvaluationConfig
from mgd_ssl.training.logging import logger


class EvaluatedImages(NamedTuple):
    """Both parts of the images.

    Attributes:
        train: the bank, or what a probe is trained on.
        val: what is measured on.
        split: how val was chosen, in words; None where the data has a val part.
    """

    train: ImageSource
    val: ImageSource
    split: str | None


def open_images(config: EvaluationConfig, *, unlabelled: bool = False) -> EvaluatedImages:
    """Open both parts; where the data has no val part, a fifth of train is split off by name.

    Args:
        config: of the evaluator.
        unlabelled: whether images without labels are of use.

    Raises:
        ValueError: the data cannot be opened, or has no labels where they are needed.
    """
    train, split = _open_train(config, unlabelled), None
    try:
        val = open_sources(
            config.data, "val", labelled=train.labels is not None, **config.folders.opening
        )
    except NoValidationError:
        train, val = split_by_name(train, config.seed)
        share = f"{SHARE:.0%}" if train.labels is None else f"{SHARE:.0%} of each class"
        split = f"{share}, by file name and seed {config.seed}"
        logger.info(
            "no val part: %d of %d images serve as val (%s); a student pretrained on this data has "
            "seen them, without labels",
            *(len(val), len(train) + len(val), split),
        )
    train = subset(train, config.limit, config.seed) if config.limit else train
    val = subset(val, config.limit_val, config.seed) if config.limit_val else val
    return EvaluatedImages(train, val, split)


def _open_train(config: EvaluationConfig, unlabelled: bool) -> ImageSource:
    opening = config.folders.opening
    try:
        return open_sources(config.data, "train", labelled=True, **opening)
    except ValueError as error:
        source = open_sources(config.data, "train", **opening)  # what else is wrong is said alone
        if not unlabelled:
            raise ValueError(
                f"{error} To see the neighbors of images without labels: knn_eval.py CHECKPOINT "
                "DATA --retrieve 10"
            ) from error
        why = str(error).partition(";")[0]
        logger.warning("no accuracy is measured: %s", why)
        return source
