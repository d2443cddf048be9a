"""What the file of a teacher, or of the weights to start from, tells of images and stem."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgd_ssl.cache.manifest import read_manifest

OF_VIEWS = ("crop_min", "crop_max", "flip_p")


def told_by_teacher(said: Mapping[str, Any]) -> dict[str, Any]:
    """``size``, ``stem`` and ``stem_stride`` of a student, as far as its teacher's file tells them.

    Args:
        said: option -> value, those that were given.

    Raises:
        ValueError: the file cannot be read, or what it says of its network cannot be.
    """
    given = {name: said.get(f"teacher_{name}") for name in ("arch", "width", "stem", "stem_stride")}
    return told_by(said.get("teacher"), given, said.get("arch", "resnet18"))


def told_by_cache(folder: Path | None) -> dict[str, Any]:
    """What a teacher cache tells of its views, and of the maps that it holds.

    Raises:
        ValueError: it is no cache, or damaged.
    """
    if folder is None:
        return {}
    manifest = read_manifest(folder)
    names = {"size": "size", "teacher_size": "teacher_size", "grid": "mgd_grid"}
    told = {option: getattr(manifest, name) for name, option in names.items()}
    return told | {name: getattr(manifest, name) for name in OF_VIEWS}


def told_by(source: Path | None, given: Mapping[str, Any], student: str | None) -> dict[str, Any]:
    """``size``, ``stem`` and ``stem_stride``, as far as a file of weights tells them.

    Args:
        source: the file, a run's directory, or the name of published weights, which tells nothing.
        given: what the user says of the network in it.
        student: architecture of the student; None where another file says it.
    """
    if source is None:
        return {}
    from mgd_ssl.models import find_backbone, find_checkpoint  # loads torch
    from mgd_ssl.models.backbones import TORCHVISION

    if not find_checkpoint(source).is_file():
        return {}
    found = find_backbone(source, given)
    size = found.entries.size()
    told: dict[str, Any] = {"size": size} if size else {}
    if found.shows_stem and student in TORCHVISION:
        told["stem"] = found.spec.stem
        if found.spec.stem == "small":
            told["stem_stride"] = found.spec.stem_stride
    return told
