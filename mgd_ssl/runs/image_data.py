"""The training images of a run, with the teacher's answers where a cache holds them."""

from typing import Any, cast

from mgd_ssl.data import ImageSource
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import KeyReport
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.tasks.task import FrozenTeacher, Teacher
from mgd_ssl.training.logging import logger
from mgd_ssl.training.training_data import ImageData

ADVISED_VIEWS = 7  # of each image in a teacher cache; docs/log.md


def look_at_cache(config: ImageRunConfig, fabric: Fabric) -> None:
    """Refuse a folder that cannot hold the cache; name the options where a cache would help.

    Raises:
        ValueError: see `check_folder`.
    """
    teacher, epochs = config.teacher.teacher, config.optim.epochs
    if config.teacher_cache:
        from mgd_ssl.runs.cache_before import check_folder  # not needed where the teacher is run

        check_folder(config)
        return
    if teacher is None or config.resume or epochs <= ADVISED_VIEWS:
        return
    if fabric.is_global_zero:
        logger.info(
            "the teacher runs in every step; --teacher-cache FOLDER --cache-views %d stores its "
            "answers first, and the run then takes less time",
            ADVISED_VIEWS,
        )


def image_data(
    config: ImageRunConfig,
    fabric: Fabric,
    source: ImageSource,
    teacher: FrozenTeacher | None,
    report: KeyReport | None,
    **kinds: Any,
) -> ImageData:
    """Views of the training images.

    Args:
        config: of the run.
        fabric: devices and precision.
        source: training images.
        teacher: whose answers a cache may hold.
        report: of loading it.
        kinds: ``views_per_image`` and ``labeled`` of `ImageData`.

    Raises:
        ValueError: the cache is not of this run, or could not be made.
    """
    if config.teacher_cache is None:
        return ImageData(config, fabric, source, config.views, **kinds)
    from mgd_ssl.runs.cached_teacher import find_cache  # not needed where the teacher is run
    from mgd_ssl.training.cached_data import CachedImageData

    assert report
    seen = kinds.get("views_per_image", 1)
    found = find_cache(config, fabric, source, cast(Teacher, teacher), report, seen)
    make = found.make if found.maker else None
    return CachedImageData(config, fabric, source, config.views, found.cache, make, **kinds)
