"""The training images of a run, with the teacher's answers where a cache holds them."""

from typing import Any, cast

from mgd_ssl.data import ImageSource
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import KeyReport
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.tasks.task import FrozenTeacher, Teacher
from mgd_ssl.training.training_data import ImageData


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
        kinds: ``views_per_image`` and ``labelled`` of `ImageData`.

    Raises:
        ValueError: the cache is not of this run.
    """
    if config.teacher_cache is None:
        return ImageData(config, fabric, source, config.views, **kinds)
    from mgd_ssl.runs.cached_teacher import open_cache  # not needed where the teacher is run
    from mgd_ssl.training.cached_data import CachedImageData

    assert report
    cache = open_cache(config, source, cast(Teacher, teacher), report)
    stored, seen = cache.manifest.views, kinds.get("views_per_image", 1)
    if stored < seen:  # the two views of an image would be the same crop
        raise ValueError(
            f"teacher_cache: got {stored} view of each image in {cache.folder}, expected at least "
            f"the {seen} that an epoch of this method sees: add some with mgd-ssl cache --views"
        )
    return CachedImageData(config, fabric, source, config.views, cache, **kinds)
