"""What a teacher cache was made from; it loads no torch."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT, MANIFEST = 2, "cache.json"
FREE = {"format", "teacher", "views"}  # what caches of the same answers may differ in
# What is said of other fields than by option -> in words.
SAID = {
    "images": "number of images",
    "features": "features of the teacher",
    "part_images": "images in a part",
}


@dataclass(frozen=True)
class StoredMap:
    """A map of the teacher as it is stored: its layer's name, and (C, H, W)."""

    name: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Manifest:
    """What a cache holds, and all that its answers depend on.

    Attributes:
        images: number of the data's images.
        data: digest of the data.
        weights: digest of the teacher's weights.
        teacher: where the teacher's weights come from, in plain values.
        views: of each image.
        size: side of a view in pixels.
        seed: of the views' crops and flips.
        crop_min: least area of a crop, as a share of the image's.
        crop_max: largest area.
        flip_p: probability of a flip.
        exif: whether images are turned as their EXIF orientation says.
        teacher_size: side of the image that the teacher is given; 0 for ``size``. Where it is
            larger, a view is cut at this side for the teacher.
        mean: that the teacher's images are normalized with.
        std: that the teacher's images are normalized with.
        precision: of the teacher.
        grid: largest side of a stored map; 0 for any.
        features: of the teacher's pooled output.
        maps: stored maps; none where the pooled output alone is stored.
        part_images: images of a part of the cache.
        format: version of the files.
    """

    images: int
    data: str
    weights: str
    teacher: Mapping[str, Any]
    views: int
    size: int
    seed: int
    crop_min: float
    crop_max: float
    flip_p: float
    exif: bool
    teacher_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    grid: int
    features: int
    part_images: int
    maps: tuple[StoredMap, ...] = field(default=())
    format: int = FORMAT

    @property
    def teachers_view(self) -> int:
        """Side in pixels of the views that the teacher's answers are to."""
        return max(self.size, self.teacher_size)

    @property
    def parts(self) -> int:
        """Parts of a view."""
        return -(-self.images // self.part_images)

    @property
    def view_bytes(self) -> int:
        """Bytes of one view of one image."""
        return 2 * self.features + sum(4 + m.channels * m.height * m.width for m in self.maps)

    @property
    def identity(self) -> str:
        """Digest of all that the answers depend on; it ignores how many views there are."""
        content = {k: v for k, v in self.to_dict().items() if k not in FREE}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


def differences(there: Manifest, here: Manifest, free: Collection[str] = ()) -> list[str]:
    """In what a cache differs from what it is to be, in words and in options of ``mgd-ssl cache``.

    Args:
        there: of the cache.
        here: what it is to be made from.
        free: fields that may differ.
    """
    was, now = there.to_dict(), here.to_dict()
    names = [k for k in was if was[k] != now[k] and k not in (*FREE, *free)]
    found = []
    for name in names:
        if name == "data":
            found += ["the images are others, by name or size"] * ("images" not in names)
        elif name == "weights":
            found.append("the teacher's weights are others")
        elif name == "maps":
            found += _of_maps(there, here, alone=len(names) == 1)
        elif name in ("mean", "std"):
            found.append(f"the teacher's {name}: {was[name]} in the cache, {now[name]} here")
        else:
            option = SAID.get(name, f"--{name.replace('_', '-')}")
            found.append(f"{option}: {was[name]} in the cache, {now[name]} here")
    return found


def _of_maps(there: Manifest, here: Manifest, *, alone: bool) -> list[str]:
    """In what the maps differ; their sides count where nothing else that differs explains them."""
    names = [", ".join(m.name for m in manifest.maps) or "none" for manifest in (there, here)]
    if names[0] != names[1]:
        return [f"--teacher-taps: the maps {names[0]} in the cache, {names[1]} here"]
    return ["the maps have other channels or sides"] if alone else []


def read_manifest(folder: Path) -> Manifest:
    """Read what a cache says of itself.

    Raises:
        ValueError: it is no cache, of another version of the files, or damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"teacher cache: got {folder}, which holds no {MANIFEST}; expected a folder that "
            "mgd-ssl cache wrote; or add --cache-views 7, which makes it first"
        )
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(
                f"files of version {content['format']}, expected {FORMAT}; make the cache anew"
            )
        maps = tuple(StoredMap(**m) for m in content.pop("maps"))
        mean, std = tuple(content.pop("mean")), tuple(content.pop("std"))
        found = Manifest(maps=maps, mean=mean, std=std, **content)
        _check_types(found)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"teacher cache: {file} is damaged: {error}") from error
    return found


def _check_types(manifest: Manifest) -> None:
    counts = [manifest.images, manifest.views, manifest.part_images, manifest.size]
    sides = [side for m in manifest.maps for side in (m.channels, m.height, m.width)]
    if not all(type(n) is int and n > 0 for n in (*counts, manifest.features, *sides)):
        raise ValueError("a count or a side is not a positive whole number")
