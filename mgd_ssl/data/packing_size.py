"""How much disk shards will take, before one is written."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgd_ssl.data.formats import printable
from mgd_ssl.data.packing import Plan, beside, encode, size_in_tar
from mgd_ssl.data.sources import THREADS
from mgd_ssl.progress import tracked

SAMPLED = 64  # images that are encoded to learn how large the others will be
RECORD = 20 * 512  # tar archives are filled up to this
MARGIN = 1.05  # on a size that was estimated


@dataclass(frozen=True)
class Size:
    """Bytes of all shards of some images; known where every image stays as it is."""

    total: int
    known: bool

    @property
    def needed(self) -> int:
        """Bytes that must be free."""
        return self.total if self.known else round(self.total * MARGIN)


def size_of_shards(plan: Plan) -> Size:
    """Bytes that the shards of a plan will take.

    Raises:
        ValueError: images that cannot be read.
    """
    count = len(plan.source)
    known = plan.coding.size is None and not plan.source.in_memory
    chosen = np.arange(count) if known else np.linspace(0, count - 1, min(count, SAMPLED))
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda index: _size(plan, index, known), chosen.astype(int).tolist())
        sizes = list(tracked(found, f"sizes of {plan.source.name}", len(chosen)))
    missing = [int(index) for index, size in zip(chosen, sizes, strict=True) if size < 0]
    if missing:
        named = ", ".join(printable(plan.source.describe(index)) for index in missing[:3])
        raise ValueError(
            f"{len(missing)} images cannot be read, among them {named}; expected to read each. "
            "Mend or remove them."
        )
    total = round(sum(sizes) / len(sizes) * count)
    return Size(total + len(plan) * RECORD, known)


def _size(plan: Plan, index: int, known: bool) -> int:
    """Bytes of one image in a shard; -1 where it cannot be read."""
    if known:
        size = plan.source.stored(index)[1]
        if size < 0:
            return -1
    else:
        size = len(encode(plan.source, index, plan.coding)[0])
    return size_in_tar([size, *(len(content) for _, content in beside(plan, index))])


def free_bytes(folder: Path) -> int:
    """Bytes that can be written to a folder, which need not exist."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def written_bytes(folder: Path) -> int:
    """Bytes of the files of a folder, which need not exist."""
    if not folder.is_dir():
        return 0
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())
