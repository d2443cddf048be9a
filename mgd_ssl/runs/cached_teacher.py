"""A teacher cache of a run: whether it is of its teacher, images and views."""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from mgd_ssl import distributed
from mgd_ssl.cache.answers import Answers
from mgd_ssl.cache.manifest import Manifest, differences, read_manifest
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import ImageDataset, ImageSource, spread_out
from mgd_ssl.data.views import to_unit
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import KeyReport, pool, without_head
from mgd_ssl.runs.cache import describe
from mgd_ssl.runs.cache_before import cache_config, find_maker, make_cache
from mgd_ssl.runs.cache_maker import Maker
from mgd_ssl.settings.image_run import ImageRunConfig
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.cached_data import StoredAnswers, stored_views
from mgd_ssl.training.logging import logger

TRIED, LEAST_COSINE = 16, 0.999
FREE = {"seed", "precision", "part_images"}  # in which a run's cache may differ from its own
OF_MAPS = {"maps", "grid"}
DTYPES = {"32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class RunCache:
    """The cache of a run.

    Attributes:
        cache: of the views that the run reads.
        maker: of the answers that are missing; None if nothing is missing.
        source: training images.
        teacher: whose answers these are.
        epochs: of the run.
    """

    cache: TeacherCache
    maker: Maker | None
    source: ImageSource
    teacher: Teacher
    epochs: int

    def make(self) -> None:
        """Store the answers that are missing, and look at them."""
        assert self.maker
        make_cache(self.maker, len(self.source))
        self.check()

    def check(self) -> None:
        """Refuse a cache that is not whole, or that says something else than the teacher.

        Raises:
            ValueError: says what is missing or differs.
        """
        distributed.from_first(lambda: check_content(self.cache, self.source, self.teacher))
        holds = self.cache.manifest
        logger.info(
            "teacher cache: %s, %d views of %d images, crops of %g to %g of the area, in %d "
            "epochs; the teacher is not run",
            *(self.cache.folder, holds.views, holds.images, holds.crop_min, holds.crop_max),
            self.epochs,
        )


def find_cache(
    config: ImageRunConfig,
    fabric: Fabric,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
    seen: int,
) -> RunCache:
    """The cache of a run, which is there, or which the run makes once it has begun.

    Args:
        config: of the run.
        fabric: devices and precision.
        source: training images.
        teacher: whose answers the cache holds.
        report: of loading it.
        seen: views of an image in an epoch.

    Raises:
        ValueError: it is of another teacher, other images or other views; it is not whole, or it
            could not be made; or it has fewer views than an epoch sees.
    """
    maker = find_maker(config, fabric, source, teacher, report)
    if maker is None:
        here = describe(cache_config(config, fabric), source.whole, teacher, report)
        cache = distributed.together(lambda: open_cache(config, here))
    else:
        cache = maker.cache
    require_views(cache, seen)
    found = RunCache(cache, maker, source, teacher, config.optim.epochs)
    if maker is None:
        found.check()
    return found


def require_views(cache: TeacherCache, seen: int) -> None:
    """Refuse fewer views than an epoch sees: an image's two views would be the same crop."""
    stored = cache.manifest.views
    if stored < seen:
        raise ValueError(
            f"teacher_cache: {cache.folder}: got {stored} view{'s' * (stored > 1)} of each image, "
            f"expected at least the {seen} that an epoch of this method sees; give --cache-views "
            f"{seen} or more"
        )


def open_cache(config: ImageRunConfig, here: Manifest) -> TeacherCache:
    """As many of the views that a folder holds as a run asks for; all unless it says how many.

    Args:
        config: of the run.
        here: what the run would make a cache from.

    Raises:
        ValueError: there is no cache, it is damaged, or it was made from anything else.
    """
    assert config.teacher_cache
    made_from = read_manifest(config.teacher_cache)
    used = replace(made_from, views=config.cache_views or made_from.views)
    cache = TeacherCache(config.teacher_cache, used)
    check_origin(cache, config, here)
    return cache


def check_origin(cache: TeacherCache, config: ImageRunConfig, here: Manifest) -> None:
    """Refuse a cache that was made from anything else than a run has.

    Args:
        cache: of the run.
        config: of the run.
        here: what the run would make a cache from.

    Raises:
        ValueError: says in what it differs.
    """
    others = differences(cache.manifest, here, FREE if config.mgd.is_matched else FREE | OF_MAPS)
    if config.mgd.is_matched and not cache.manifest.maps:
        raise ValueError(
            f"teacher_cache: {cache.folder}: it holds no maps to match; use a method that matches "
            "none, such as --method simreg, or name another folder with --teacher-cache and "
            "--cache-views 7, which makes a cache with maps"
        )
    if others:
        told = "; ".join(others).replace("--grid", "--mgd-grid")
        raise ValueError(
            f"teacher_cache: {cache.folder} does not belong to this run: {told}; give what it was "
            "made from, or name another folder with --teacher-cache and --cache-views 7, which "
            "makes another cache"
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


@torch.no_grad()
def check_answers(cache: TeacherCache, images: ImageSource, teacher: Teacher) -> None:
    """Ask the teacher about a sample once more.

    Raises:
        ValueError: it says something else than the cache.
    """
    manifest = cache.manifest
    crops = stored_views(manifest, manifest.teachers_view)
    dataset = ImageDataset(images, crops, manifest.exif, StoredAnswers.of(cache))
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
