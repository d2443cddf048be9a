"""A teacher cache of a run: whether it is of its teacher, images and views."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from mgd_ssl import distributed
from mgd_ssl.cache.answers import Answers
from mgd_ssl.cache.manifest import Manifest, read_manifest
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import ImageDataset, ImageSource, data_digest, spread_out
from mgd_ssl.data.views import to_unit
from mgd_ssl.models import KeyReport, backbone_state, pool, without_head
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.cached_data import Store, stored_views
from mgd_ssl.training.logging import logger
from mgd_ssl.training.same_run import weights_digest

TRIED, LEAST_COSINE = 16, 0.999
DTYPES = {"32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def open_cache(
    config: ImageRunConfig, source: ImageSource, teacher: Teacher, report: KeyReport
) -> TeacherCache:
    """The cache of a run, compared with all that it was made from, and with the teacher itself.

    Raises:
        ValueError: it is of another teacher, other images or other views, or it is not whole.
    """
    assert config.teacher_cache
    made_from = read_manifest(config.teacher_cache)
    used = replace(made_from, views=config.cache_views or made_from.views)
    cache = TeacherCache(config.teacher_cache, used)
    distributed.together(lambda: check_cache(cache, config, source, teacher, report))
    manifest = cache.manifest
    logger.info(
        "teacher cache: %s, %d views of %d images in %d epochs; the teacher is not run",
        *(cache.folder, manifest.views, manifest.images, config.optim.epochs),
    )
    return cache


def check_cache(
    cache: TeacherCache,
    config: ImageRunConfig,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
) -> None:
    """Refuse a cache that does not belong to a run.

    Raises:
        ValueError: says in what it differs.
    """
    others = list(_differences(cache.manifest, config, source, teacher, report))
    if others:
        raise ValueError(
            f"teacher_cache: {cache.folder} does not belong to this run: {'; '.join(others)}; "
            "give what it was made from, or make another cache with mgd-ssl cache"
        )
    if distributed.rank():
        return
    missing = cache.missing(checksums=False)  # each is compared as it is first read
    if missing:
        every = cache.manifest.views * cache.manifest.parts
        view, part = missing[0]
        raise ValueError(
            f"teacher_cache: {len(missing)} of {every} parts of {cache.folder} are missing or "
            f"damaged, the first of view {view}, part {part}; repeat the command that made "
            "the cache, mgd-ssl cache or a run with --cache-views, which makes them"
        )
    check_answers(cache, source.whole, teacher)


def _differences(
    manifest: Manifest,
    config: ImageRunConfig,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
) -> Iterator[str]:
    """What the cache was made from that the run is not, in words."""
    loader, views = config.loader, config.views
    given: dict[str, tuple[Any, Any]] = {
        "--size": (manifest.size, loader.size),
        "--teacher-size": (manifest.teacher_size, config.teacher.teacher_size),
        "--crop-min": (manifest.crop_min, views.crop_min),
        "--crop-max": (manifest.crop_max, views.crop_max),
        "--flip-p": (manifest.flip_p, views.flip_p),
        "--exif": (manifest.exif, loader.exif),
        "number of images": (manifest.images, len(source.whole)),
        "the teacher's normalization": (
            (manifest.mean, manifest.std),
            (tuple(report.mean), tuple(report.std)),
        ),
    }
    for name, (was, now) in given.items():
        if was != now:
            yield f"{name}: {was} in the cache, {now} here"
    if manifest.weights != weights_digest(backbone_state(teacher.network)):
        yield "the teacher's weights are others"
    if manifest.images == len(source.whole) and manifest.data != data_digest(source.whole):
        yield "the images are others, by name or size"
    if config.mgd.is_matched:
        yield from _map_differences(manifest, config, teacher)


def _map_differences(manifest: Manifest, config: ImageRunConfig, teacher: Teacher) -> Iterator[str]:
    if not manifest.maps:
        yield "it holds no maps to match; use --mgd-weighing none, or a cache made with --maps"
    elif config.mgd.mgd_grid != manifest.grid:
        yield f"--mgd-grid: {manifest.grid} in the cache, {config.mgd.mgd_grid} here"
    elif [m.name for m in manifest.maps] != list(teacher.reader.names):
        names = ", ".join(m.name for m in manifest.maps)
        yield f"--teacher-taps: the maps {names} in the cache, {teacher.reader.names} here"


@torch.no_grad()
def check_answers(cache: TeacherCache, images: ImageSource, teacher: Teacher) -> None:
    """Ask the teacher about a sample once more.

    Raises:
        ValueError: it says something else than the cache.
    """
    manifest = cache.manifest
    crops = stored_views(manifest, manifest.teachers_view)
    dataset = ImageDataset(images, crops, manifest.exif, Store.of(cache))
    batch = dataset.__getitems__(spread_out(len(images), TRIED))
    assert batch.stored is not None
    stored = Answers.decode({name: column[:, 0] for name, column in batch.stored.items()})
    half = manifest.precision != "32"
    autocast = torch.autocast("cpu", getattr(torch, DTYPES[manifest.precision]), enabled=half)
    with autocast, without_head(teacher.network):
        output = pool(teacher(to_unit(batch.images[:, 0]))[1]).float()
    least = float(F.cosine_similarity(output, stored.output).min())
    logger.info("teacher cache: cosine of stored and live output at least %.5f", least)
    if not least >= LEAST_COSINE:
        raise ValueError(
            f"teacher_cache: {cache.folder}: got a cosine of {least:.4f} between stored and live "
            f"output, expected at least {LEAST_COSINE}; make it anew with mgd-ssl cache"
        )
