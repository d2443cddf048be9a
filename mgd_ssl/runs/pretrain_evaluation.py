"""What is measured as pretraining goes, and which figure chooses best.pt."""

from mgd_ssl.data import ImageSource, NoValidationError, open_sources, split_off, subset
from mgd_ssl.evaluation.online import OnlineKnn
from mgd_ssl.evaluation.online_health import AGREEMENT, OnlineHealth
from mgd_ssl.fabric import Fabric
from mgd_ssl.settings.pretrain import EMBEDDED_KNN_K, KNN_K, LEAST_HEALTH_IMAGES, PretrainConfig
from mgd_ssl.training.checks import check_readable
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.logging import logger

HEALTH_NEIGHBORS = 20
HELD_OUT_SHARE = 0.05  # of train, where there is no val part
FEWEST_TO_SPLIT = 40


def hold_out(config: PretrainConfig, source: ImageSource) -> tuple[ImageSource, ImageSource | None]:
    """Images to train on, and images that the health figures are taken from.

    These are val's where there is a val part, else a share of ``source`` that is kept out of
    training. Seed, data and the options decide which, so that a resumed run finds the same.
    """
    options = config.evaluation
    if options.health_every == 0:
        return source, None
    try:
        val = open_sources(config.data, "val", **config.loader.opening)
    except NoValidationError:
        return _keep_out(source, options.health_images, config.seed)
    if len(val) < LEAST_HEALTH_IMAGES:
        logger.warning(
            "health: %s holds %d images, and fewer than %d say nothing of a network's health, so "
            "it is not measured",
            *(val.name, len(val), LEAST_HEALTH_IMAGES),
        )
        return source, None
    return source, subset(val, options.health_images, config.seed)


def _keep_out(source: ImageSource, most: int, seed: int) -> tuple[ImageSource, ImageSource | None]:
    if len(source) < FEWEST_TO_SPLIT:
        logger.warning("health: no val part, and too few images to keep some out of training")
        return source, None
    count = min(most, max(LEAST_HEALTH_IMAGES, int(HELD_OUT_SHARE * len(source))))
    rest, held_out = split_off(source, count, seed)
    logger.info(
        "no val part: %d of %d images are kept out of training for the health figures "
        "(--health-every 0 keeps none out)",
        *(count, len(source)),
    )
    return rest, held_out


def build_health(config: PretrainConfig, fabric: Fabric, images: ImageSource) -> OnlineHealth:
    """The label-free figures, from images that are not trained on."""
    check_readable(images, "health", config.loader.exif)
    loader = build_loader(config, fabric, images)
    return OnlineHealth(loader, min(HEALTH_NEIGHBORS, len(images) // 3), fabric.device)


def build_knn(config: PretrainConfig, fabric: Fabric) -> OnlineKnn | None:
    """The kNN evaluator, where it is wanted and there are labels."""
    options = config.evaluation
    if options.knn_every == 0:
        return None
    data, opening = config.data, config.loader.opening
    if options.eval_data:  # a data set of its own, whose folders have names of their own
        data, opening = (options.eval_data,), {"max_pixels": config.loader.max_pixels}
    try:
        bank = open_sources(data, "train", labeled=True, **opening)
        queries = open_sources(data, "val", labeled=True, **opening)
    except ValueError as error:
        if options.eval_data:
            raise
        why = str(error).partition(";")[0]
        logger.info("no kNN accuracy is measured during training: %s", why)
        return None
    bank = subset(bank, options.knn_bank, config.seed)
    check_readable(queries, "kNN", config.loader.exif)
    return OnlineKnn(
        bank=build_loader(config, fabric, bank),
        queries=build_loader(config, fabric, queries),
        k=_neighbors(config, len(bank)),
        temperature=options.knn_t,
        device=fabric.device,
    )


def _neighbors(config: PretrainConfig, bank: int) -> int:
    """How many neighbors vote: those asked for; the usual number is lowered to the bank's.

    Raises:
        ValueError: another number is asked for than the bank holds.
    """
    k = config.evaluation.knn_k
    if k <= bank:
        return k
    if k not in (KNN_K, EMBEDDED_KNN_K):
        raise ValueError(
            f"knn_k: got {k} neighbors and a bank of {bank} labeled training images, expected 1 "
            f"to {bank}; give --knn-k {bank} or less, or --knn-every 0"
        )
    logger.info("kNN: the bank holds %d images, so that k is %d and not %d", bank, bank, k)
    return bank


LABELS = "val_knn_top1"


def choose_best(config: PretrainConfig, *, agreement: bool, labels: bool) -> str:
    """The figure that chooses best.pt, empty for the last epoch; it is said.

    Args:
        config: resolved.
        agreement: whether agreement with a teacher is measured.
        labels: whether kNN accuracy is.

    Raises:
        ValueError: what is asked for is not measured.
    """
    best = config.evaluation.best
    if best == "agreement" and not agreement:
        logger.warning("no images are held out to measure agreement with the teacher on")
        best = "last"
    if best == "labels" and not labels:
        raise ValueError(
            "best: got labels, and no kNN accuracy is measured, expected labeled train and val "
            "parts, in DATA or --eval-data, and --knn-every 1 or more; or --best last"
        )
    how = {
        "agreement": f"is chosen by agreement with the teacher on held-out images ({AGREEMENT})",
        "labels": f"is chosen by labels: the kNN accuracy ({LABELS})",
        "last": "is the last epoch's student",
    }
    logger.info(
        "best.pt %s; %s",
        how[best],
        "labels are read for kNN figures (--knn-every 0 reads none)"
        if labels
        else "no labels are read",
    )
    return {"agreement": AGREEMENT, "labels": LABELS, "last": ""}[best]
