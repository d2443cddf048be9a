"""The teacher cache that a training command makes before it trains."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mgd_ssl import distributed
from mgd_ssl.cache.manifest import MANIFEST, read_manifest
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import ImageSource
from mgd_ssl.fabric import Fabric
from mgd_ssl.files import WriteError, require_folder
from mgd_ssl.models import KeyReport, find_reader
from mgd_ssl.runs.cache import build_maker, store
from mgd_ssl.runs.cache_maker import Maker
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.loaders import images_per_process
from mgd_ssl.training.logging import logger

TAPS = "--teacher-taps"
USED = 0.9  # share of the images of which a run that trains on fewer is warned
# Options of mgd-ssl cache -> what they are called here.
CALLED = {"--out": "--teacher-cache", "--views": "--cache-views", "--grid": "--mgd-grid"}


def check_folder(config: ImageRunConfig) -> None:
    """Refuse a folder that cannot hold a run's new cache, before anything is loaded.

    Raises:
        ValueError: it is none, it cannot be written to, or it and the run's directory lie in each
            other.
    """
    folder = _folder(config)
    if not config.cache_views or distributed.from_first((folder / MANIFEST).is_file):
        return
    distributed.from_first(lambda: require_folder(folder, "--teacher-cache"))
    out, place = config.out.resolve(), folder.resolve()
    if out in (place, *place.parents) or place in out.parents:
        raise ValueError(
            f"teacher_cache: {folder} and the run's directory {config.out} lie in each other, "
            "expected folders apart, as other runs can read the cache too; name another with "
            "--teacher-cache"
        )


def find_maker(
    config: ImageRunConfig,
    fabric: Fabric,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
) -> Maker | None:
    """What makes the answers that a run reads and that are missing; None if nothing is missing.

    Raises:
        ValueError: the folder holds something else, or the disk is too small.
    """
    if distributed.from_first(lambda: is_made(config)):
        return None
    made = cache_config(config, fabric)
    if made.maps and not config.mgd.is_matched:  # a cache that serves runs that match has them
        reader = find_reader(teacher.network, config.teacher.teacher_taps, teacher.size, TAPS)
        teacher = Teacher(teacher.network, reader, teacher.normalize, teacher.size)
    whole = source.whole
    with _as_called_here():
        return build_maker(made, fabric, whole, teacher, report, checksums=False)


def make_cache(maker: Maker, seen: int) -> None:
    """Store what a run reads and what is missing.

    Args:
        maker: of the answers.
        seen: images that the run trains on.
    """
    images = len(maker.source)
    logger.info("the teacher's answers are stored first; later runs with this teacher read them")
    if seen < USED * images:
        logger.warning(
            "a cache is of all %s images of DATA, and this run trains on %s of them",
            *(f"{images:,}", f"{seen:,}"),
        )
    with _as_called_here():
        store(maker, checksums=False)


def is_made(config: ImageRunConfig) -> bool:
    """Whether a run need not make its cache: none of the parts that it reads is missing."""
    if not config.cache_views:
        return True
    folder = _folder(config)
    if not (folder / MANIFEST).is_file():
        return False
    manifest = read_manifest(folder)
    if manifest.views < config.cache_views:
        return False
    used = TeacherCache(folder, replace(manifest, views=config.cache_views))
    return not used.missing(checksums=False)


def cache_config(config: ImageRunConfig, fabric: Fabric) -> CacheConfig:
    """The settings of ``mgd-ssl cache`` that go with a run's.

    A cache serves runs of any seed and, if it holds maps, runs that match none; one that is there
    keeps its own.
    """
    loader, views, folder = config.loader, config.views, _folder(config)
    there = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    return CacheConfig(
        **loader.opening,
        data=config.data,
        out=folder,
        seed=there.seed if there else CacheConfig.seed,
        views=config.cache_views,
        grid=config.mgd.mgd_grid,
        maps=config.mgd.is_matched or bool(there and there.maps),
        size=loader.size,
        crop_min=views.crop_min,
        crop_max=views.crop_max,
        flip_p=views.flip_p,
        batch_size=min(CacheConfig.batch_size, images_per_process(config, fabric)),
        workers=loader.workers,
        bad_images=loader.bad_images,
        exif=loader.exif,
        teacher=config.teacher,
        device=config.device,
    )


@contextmanager
def _as_called_here() -> Iterator[None]:
    """Inside, messages of ``mgd-ssl cache`` are told in the options of a training command."""
    try:
        yield
    except (ValueError, WriteError) as error:
        message = re.sub(r"^out: ", "teacher_cache: ", str(error))
        message = message.replace(" or a smaller --grid", "")  # it would change the matching too
        told = re.sub(r"(?<!\S)--\w+", lambda found: CALLED.get(found[0], found[0]), message)
        raise (WriteError if isinstance(error, WriteError) else ValueError)(told) from error


def _folder(config: ImageRunConfig) -> Path:
    assert config.teacher_cache
    return config.teacher_cache
