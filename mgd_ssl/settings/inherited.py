"""What the files of a teacher and of a student's initial weights tell of images and network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgd_ssl.cache.manifest import MANIFEST, read_manifest
from mgd_ssl.settings.run import IGNORED, THINNABLE

if TYPE_CHECKING:  # it loads torch
    from mgd_ssl.models.checkpoints import FoundBackbone

USUAL_SIZE = 224  # side in pixels of the images that published networks are trained on
LIVE, STORED = 1.5, 2.0  # sides of a teacher's views, of one in training and of one in a cache
LEAST_STORED = 128  # side in pixels of a view in a cache, also of images that have fewer
STORED_GRID = 4  # largest side of a map in a cache
NETWORK = ("arch", "width", "stem", "stem_stride")
OF_VIEWS = ("crop_min", "crop_max", "flip_p")


def told_by_teacher(said: Mapping[str, Any]) -> dict[str, Any]:
    """``size``, ``stem`` and ``stem_stride`` of a new student, as far as its teacher's file tells.

    Args:
        said: option -> value, those that were given.

    Returns:
        These, and ``teacher_own_size``, the side of the images that the teacher was trained on, 0
        where a network with a small stem does not tell it; and ``teacher_patch``, the side of a
        ViT's patches. Of stems it tells the small one alone.

    Raises:
        ValueError: the file cannot be read, or what it says of its network cannot be.
    """
    given = {name: said.get(f"teacher_{name}") for name in NETWORK}
    return told_by(said.get("teacher"), given, said.get("arch", "resnet18"))


def usual_teacher_size(said: Mapping[str, Any], size: int, *, stored: bool) -> int:
    """Side of the teacher's images in pixels, where the user names none; 0 for the student's.

    Larger than the student's, at most the side that the teacher was trained on, and whole patches:
    a network that sees smaller images than in its training answers worse, and its student learns
    that. A teacher that is asked once for all epochs sees larger ones yet (docs/log.md).

    Args:
        said: option -> value, with what the files tell.
        size: side of the student's images in pixels.
        stored: whether the teacher is asked once, for a cache.
    """
    if "teacher_size" in said or said.get("teacher") is None:
        return int(said.get("teacher_size", 0))
    patch = said.get("teacher_patch") or _patch(str(said["teacher"]))
    wanted = max(STORED * size, LEAST_STORED) if stored else LIVE * size
    found = min(wanted, said.get("teacher_own_size", USUAL_SIZE))
    found = round(found / patch) * patch
    return int(found) if found > size else 0


def _patch(name: str) -> int:
    """Side in pixels of the patches of a network that names it; 1 of another."""
    named = re.search(r"patch(\d+)", name)
    return int(named[1]) if named else 1


def told_by_cache(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a teacher cache tells of its views, and of the maps that it holds.

    One that is yet to be made tells nothing.

    Raises:
        ValueError: it is no cache, or damaged.
    """
    folder: Path | None = said.get("teacher_cache")
    if folder is None or (said.get("cache_views") and not (folder / MANIFEST).is_file()):
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
    found = _find(source, given)
    if found is None:
        return {}
    from mgd_ssl.models.backbones import TORCHVISION

    told = _size(found)
    if told or found.spec.stem == "small":
        told["teacher_own_size"] = told.get("size", 0)
    told["teacher_patch"] = _patch(found.spec.arch)
    if found.shows_stem and found.spec.stem == "small" and student in TORCHVISION:
        told |= {"stem": "small", "stem_stride": found.spec.stem_stride}
    return told


def told_by_start(said: Mapping[str, Any]) -> dict[str, Any]:
    """``size`` and the stages to ``ignore``, as far as ``--student-weights`` tells them.

    A size that these weights do not tell is the teacher's.

    Raises:
        ValueError: see `told_by_teacher`.
    """
    source: Path = said["student_weights"]
    found = _find(source, {name: said.get(name) for name in NETWORK})
    teachers = {k: v for k, v in told_by_teacher(said).items() if not k.startswith("stem")}
    arch = found.spec.arch if found else said.get("arch") or str(source).partition(":")[0]
    return teachers | (_size(found) if found else {}) | {"ignore": IGNORED.get(arch, ())}


def told_by_body(said: Mapping[str, Any]) -> dict[str, Any]:
    """``arch``, ``width``, ``stem`` and ``stem_stride``, as ``--backbone-weights`` tells them.

    A pickle of Detectron2 or Caffe2 tells nothing.

    Raises:
        ValueError: see `told_by_teacher`.
    """
    source: Path | None = said.get("backbone_weights")
    if source is None or source.suffix == ".pkl":
        return {}
    found = _find(source, {name: said.get(name) for name in NETWORK})
    if found:
        return {name: getattr(found.spec, name) for name in NETWORK}
    published = str(source).partition(":")[0]
    known = published in THINNABLE  # others have one width and one stem
    return {"arch": published, "width": 1.0} if known else {}


def _find(source: Path | None, given: Mapping[str, Any]) -> FoundBackbone | None:
    """The network in a file or a run's directory; None of published weights, which tell nothing."""
    if source is None:
        return None
    from mgd_ssl.models import find_backbone, find_checkpoint  # loads torch

    return find_backbone(source, given) if find_checkpoint(source).is_file() else None


def _size(found: FoundBackbone) -> dict[str, Any]:
    size = found.entries.size()
    return {"size": size} if size else {}
