"""The teacher cache that a training command makes before it trains."""

import re
from dataclasses import replace
from pathlib import Path

from mgd_ssl import distributed
from mgd_ssl.cache.manifest import MANIFEST, read_manifest
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.fabric import Fabric
from mgd_ssl.files import require_writable
from mgd_ssl.runs.cache import store
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.training.logging import logger
from mgd_ssl.training.run_directory import RunDirectory

# Options of mgd-ssl cache -> what they are called here.
CALLED = {"--out": "--teacher-cache", "--views": "--cache-views", "--grid": "--mgd-grid"}


def make_cache(config: ImageRunConfig, fabric: Fabric) -> None:
    """Store what ``--cache-views`` asks for and ``--teacher-cache`` does not hold.

    Raises:
        ValueError: the run's directory or the folder is refused, or the disk is too small.
    """
    if distributed.from_first(lambda: is_made(config)):
        return
    distributed.from_first(lambda: _check_places(config))
    logger.info("the teacher's answers are stored first; later runs with this teacher read them")
    if config.loader.limit:
        logger.warning("--limit: a cache is of all images of DATA, also of those left out here")
    try:
        store(_cache_config(config), fabric)
    except ValueError as error:
        raise ValueError(_as_called_here(str(error))) from error


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


def _check_places(config: ImageRunConfig) -> None:
    """Refuse a run's directory that would be refused once the answers are stored."""
    folder, out = _folder(config), config.out.resolve()
    require_writable(folder / MANIFEST, "--teacher-cache")
    if out in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(
            f"teacher_cache: {folder} lies in the run's directory {config.out}, expected a folder "
            "of its own, which other runs can read too; name one with --teacher-cache"
        )
    if not config.overwrite:
        directory = RunDirectory(config.out)
        directory.open(resume=config.resume, overwrite=False)
        directory.abandon()


def _cache_config(config: ImageRunConfig) -> CacheConfig:
    """The settings of ``mgd-ssl cache`` that go with a run's; a cache serves runs of any seed."""
    loader, views = config.loader, config.views
    return CacheConfig(
        **loader.opening,
        data=config.data,
        out=_folder(config),
        views=config.cache_views,
        grid=config.mgd.mgd_grid,
        maps=config.mgd.is_matched,
        size=loader.size,
        crop_min=views.crop_min,
        crop_max=views.crop_max,
        flip_p=views.flip_p,
        workers=loader.workers,
        bad_images=loader.bad_images,
        exif=loader.exif,
        teacher=config.teacher,
        device=config.device,
    )


def _as_called_here(message: str) -> str:
    """A message of ``mgd-ssl cache`` in the options of a training command."""
    message = re.sub(r"^out: ", "teacher_cache: ", message)
    return re.sub(r"(?<!\S)--\w+", lambda found: CALLED.get(found[0], found[0]), message)


def _folder(config: ImageRunConfig) -> Path:
    assert config.teacher_cache
    return config.teacher_cache
