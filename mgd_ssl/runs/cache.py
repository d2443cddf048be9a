"""Making a teacher cache: what it is of, what it takes, and from where a stopped one goes on."""

import json
import shlex
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mgd_ssl import distributed
from mgd_ssl.cache.manifest import MANIFEST, Manifest, StoredMap, differences, read_manifest
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.data import ImageSource, data_digest, open_sources
from mgd_ssl.data.packing_size import free_bytes
from mgd_ssl.fabric import Fabric
from mgd_ssl.files import require_folder, write_text
from mgd_ssl.models import KeyReport, Taps, backbone_state, load_backbone, probe
from mgd_ssl.progress import format_duration
from mgd_ssl.runs.cache_maker import Maker
from mgd_ssl.runs.output_folder import LOCK, PART_IMAGES, alone, gigabytes
from mgd_ssl.screen import UNBROKEN
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.options import PILLOWS_LIMIT
from mgd_ssl.stages import at_most
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.checks import check_readable, check_teacher
from mgd_ssl.training.devices import place, settled, start_fabric
from mgd_ssl.training.distillation import make_teacher
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.same_run import weights_digest


def run(config: CacheConfig) -> None:
    """Store the answers that are still missing.

    Raises:
        ValueError: the teacher or the images are refused, the disk is too small, or the folder
            holds something else.
        WriteError: the disk is full; the parts that are whole stay.
    """
    start_logging()
    require_folder(config.out)
    config = replace(config, device=settled(config.device))
    fabric = start_fabric(config.device)
    source = open_sources(config.data, "train", **config.opening)
    check_readable(source, "the cache", config.exif)
    teacher, report = load_teacher(config)
    check_teacher(teacher, config.size, source, config.exif)
    maker = build_maker(config, fabric, source, teacher, report, checksums=True)
    store(maker, checksums=True)
    words = shlex.join(training_words(config))
    logger.info("cached: python pretrain.py %s", words, extra=UNBROKEN)


def build_maker(
    config: CacheConfig,
    fabric: Fabric,
    source: ImageSource,
    teacher: Teacher,
    report: KeyReport,
    *,
    checksums: bool,
) -> Maker:
    """What makes the answers that are still missing; nothing is written yet.

    Args:
        config: of the cache.
        fabric: devices and precision.
        source: all images of the data.
        teacher: frozen, with a reader of the maps that are stored.
        report: of loading it.
        checksums: whether parts that are there are read whole; else their headers alone are.

    Raises:
        ValueError: the folder holds something else, or the disk is too small.
    """
    manifest = describe(config, source, teacher, report)
    distributed.from_first(lambda: require_same(config.out, manifest))
    cache = TeacherCache(config.out, manifest)
    missing = distributed.from_first(lambda: cache.missing(checksums=checksums))
    maker = Maker(config, fabric, source, teacher, cache, missing)
    distributed.from_first(lambda: require_room(maker))
    return maker


def store(maker: Maker, *, checksums: bool) -> None:
    """Store the answers that are missing.

    Args:
        maker: of the answers.
        checksums: see `build_maker`.

    Raises:
        ValueError: another command has stored others there.
        DecodeError: too many images cannot be decoded.
        WriteError: the disk is full; the parts that are whole stay.
    """
    out, cache = maker.config.out, maker.cache
    with ExitStack() as stack:

        def begin() -> list[tuple[int, int]]:
            stack.enter_context(alone(out, "stores answers", waits=True))
            require_same(out, cache.manifest)  # another command may have been there since
            say_content(out, cache.manifest)
            return cache.missing(checksums=checksums, among=maker.missing)

        maker.missing = distributed.from_first(begin)
        network, options, device = maker.teacher.network, maker.config.device, maker.fabric.device
        maker.teacher.to(device)
        place(network, options, device, maker.teacher.reader)
        distributed.together(lambda: say_time(maker))
        maker.make()  # not together: a failure need not wait for hours of the others' work
        maker.fabric.barrier()


def load_teacher(config: CacheConfig) -> tuple[Teacher, KeyReport]:
    """The frozen teacher, with a reader of the maps that are stored."""
    options = config.teacher
    assert options.teacher
    network, report = load_backbone(options.teacher, **options.spec)
    size = options.teacher_size or config.size
    probe(network, Taps([]), size, "--teacher-size")
    return make_teacher(options, size, network, report, config.maps), report


def describe(
    config: CacheConfig, source: ImageSource, teacher: Teacher, report: KeyReport
) -> Manifest:
    """What the cache is to be made from."""
    maps = probe(teacher.network, teacher.reader, teacher.size)
    named = zip(teacher.reader.names, maps, strict=True)
    stored = [(name, at_most(x, config.grid)) for name, x in named]
    return Manifest(
        images=len(source),
        data=distributed.from_first(lambda: data_digest(source)),
        weights=weights_digest(backbone_state(teacher.network)),
        teacher=report.provenance.to_dict(),
        views=config.views,
        size=config.size,
        seed=config.seed,
        crop_min=config.crop_min,
        crop_max=config.crop_max,
        flip_p=config.flip_p,
        exif=config.exif,
        teacher_size=config.teacher.teacher_size,
        mean=tuple(report.mean),
        std=tuple(report.std),
        precision=config.device.precision,
        grid=config.grid,
        features=report.features,
        part_images=PART_IMAGES,
        maps=tuple(StoredMap(name, *x.shape[1:]) for name, x in stored),
    )


def require_same(out: Path, manifest: Manifest) -> None:
    """Refuse a folder that holds anything but a cache of the same, of any number of views.

    Raises:
        ValueError: says what helps.
    """
    if not (out / MANIFEST).is_file():
        if out.is_dir() and any(not _is_left(file.name) for file in out.iterdir()):
            raise ValueError(f"out: {out} is not empty; expected a new folder. Name one with --out")
        return
    there = read_manifest(out)
    if others := differences(there, manifest):
        raise ValueError(
            f"out: {out} holds another cache: {'; '.join(others)}; expected the same to go on with "
            "it. Name another folder with --out, or delete it"
        )


def _is_left(name: str) -> bool:
    """Whether a file is what a command leaves that is killed as it begins."""
    return name == LOCK or (name.startswith(f".{MANIFEST}.") and name.endswith(".tmp"))


def say_content(out: Path, manifest: Manifest) -> None:
    """Say in the folder what is stored there; the caller is alone in it."""
    for pattern in (f".{MANIFEST}.*.tmp", "view_*/.*.tmp"):
        for file in out.glob(pattern):
            file.unlink()  # of a command that was killed
    there = read_manifest(out).views if (out / MANIFEST).is_file() else 0
    content = replace(manifest, views=max(manifest.views, there))
    write_text(out / MANIFEST, json.dumps(content.to_dict(), indent=1))


def require_room(maker: Maker) -> None:
    """Say what will be written, and refuse where it does not fit.

    Raises:
        ValueError: the disk is too small.
    """
    cache, left = maker.cache, maker.images_left
    made_from = cache.manifest
    needed, free = left * made_from.view_bytes, free_bytes(cache.folder)
    total = made_from.images * made_from.views * made_from.view_bytes
    logger.info(
        "%s: images: %s, views of each: %d, %s (%.1f kB a view); %s are to be made, %s of the disk "
        "are free",
        *(cache.folder, f"{made_from.images:,}", made_from.views, gigabytes(total)),
        *(made_from.view_bytes / 1e3, gigabytes(needed), gigabytes(free)),
    )
    if needed > free:
        raise ValueError(
            f"out: {cache.folder} needs {gigabytes(needed)}, and {gigabytes(free)} of the disk are "
            "free; expected more. Name a folder on another disk with --out, or store fewer --views"
            f"{' or a smaller --grid' if made_from.maps else ''}"
        )


def say_time(maker: Maker) -> None:
    """Say how long the answers of a teacher that is on its device take to make."""
    if left := maker.images_left:
        rate, images = maker.images_per_second(), maker.cache.manifest.images
        logger.info(
            "%.0f images/s: about %s to make; training is then about %s shorter for each view that "
            "it sees of all images",
            *(rate, format_duration(left / rate), format_duration(images / rate)),
        )


def training_words(config: CacheConfig) -> list[str]:
    """Arguments of pretrain.py that train from the cache; it tells sizes and views itself.

    Without maps the method is one that asks for the teacher's features alone.
    """
    network = {f"teacher_{name}": value for name, value in config.teacher.spec.items()}
    given: dict[str, Any] = {
        "train_folder": config.train_folder,
        "teacher": config.teacher.teacher,
        **network,
        "teacher_taps": config.teacher.teacher_taps or None,
        "teacher_cache": config.out,
        "max_pixels": config.max_pixels if config.max_pixels != PILLOWS_LIMIT else None,
        "method": None if config.maps else "simreg",
    }
    words = [str(place) for place in config.data]
    for name, value in given.items():
        if value is not None:
            values = value if isinstance(value, tuple | list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return [*words, *(["--no-exif"] if not config.exif else [])]
