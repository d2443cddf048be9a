"""A teacher cache of a run: whether it is of its teacher, images and views."""

from collections.abc import Callable, Iterator
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
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import KeyReport, backbone_state, pool, without_head
from mgd_ssl.runs.cache_before import find_maker, make_cache
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.cached_data import Store, stored_views
from mgd_ssl.training.logging import logger
from mgd_ssl.training.same_run import weights_digest

TRIED, LEAST_COSINE = 16, 0.999
DTYPES = {"32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def find_cache(
    config: ImageRunConfig,
    fabric: Fabric,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
) -> tuple[TeacherCache, Callable[[], None] | None]:
    """The cache of a run, and what makes it; None where it is there and of this run.

    Raises:
        ValueError: it is of another teacher, other images or other views; it is not whole, or it
            could not be made.
    """
    maker = find_maker(config, fabric, source, teacher, report)
    cache = maker.cache if maker else open_cache(config)
    distributed.together(lambda: check_origin(cache, config, source, teacher, report))

    def check() -> None:
        distributed.from_first(lambda: check_content(cache, source, teacher))

    def make() -> None:
        assert maker
        make_cache(maker, limited=bool(config.loader.limit))
        check()

    if maker is None:
        check()
    holds = cache.manifest
    logger.info(
        "teacher cache: %s, %d views of %d images, crops of %g to %g of the area, in %d epochs; "
        "the teacher is not run",
        *(cache.folder, holds.views, holds.images, holds.crop_min, holds.crop_max),
        config.optim.epochs,
    )
    return cache, make if maker else None


def open_cache(config: ImageRunConfig) -> TeacherCache:
    """As many of the views that a folder holds as a run asks for; all unless it says how many.

    Raises:
        ValueError: there is no cache, or it is damaged.
    """
    assert config.teacher_cache
    made_from = read_manifest(config.teacher_cache)
    used = replace(made_from, views=config.cache_views or made_from.views)
    return TeacherCache(config.teacher_cache, used)


def check_origin(
    cache: TeacherCache,
    config: ImageRunConfig,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
) -> None:
    """Refuse a cache that was made from anything else than a run has.

    Raises:
        ValueError: says in what it differs.
    """
    others = list(_differences(cache.manifest, config, source, teacher, report))
    if others:
        raise ValueError(
            f"teacher_cache: {cache.folder} does not belong to this run: {'; '.join(others)}; "
            "give what it was made from, or make another cache with mgd-ssl cache"
        )


def check_content(cache: TeacherCache, source: ImageSource, teacher: Teacher) -> None:
    """Refuse a cache that is not whole, or that says something else than the teacher.

    Raises:
        ValueError: says what is missing or differs.
    """
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
    device = next(teacher.network.parameters()).device
    dtype = getattr(torch, DTYPES[manifest.precision])
    with torch.autocast(device.type, dtype, enabled=half), without_head(teacher.network):
        output = pool(teacher(to_unit(batch.images[:, 0].to(device)))[1]).float().cpu()
    least = float(F.cosine_similarity(output, stored.output).min())
    logger.info("teacher cache: cosine of stored and live output at least %.5f", least)
    if not least >= LEAST_COSINE:
        raise ValueError(
            f"teacher_cache: {cache.folder}: got a cosine of {least:.4f} between stored and live "
            f"output, expected at least {LEAST_COSINE}; make it anew with mgd-ssl cache"
        )
