"""Weights in several safetensors files, and the index that says which entry is in which.

As Hugging Face writes them: ``model.safetensors.index.json`` beside its shards. An index names
files of its own folder alone, by their plain names.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

LARGEST = 1 << 26  # bytes of an index
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")


def is_index(path: Path) -> bool:
    """Whether a file is JSON with an entry ``weight_map``."""
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return False
    if path.stat().st_size > LARGEST:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "weight_map" in content


def read_map(path: Path) -> dict[str, str]:
    """Entry -> name of the shard that it is in.

    Raises:
        ValueError: the map is none, or names something else than a file of its folder.
    """
    found = json.loads(path.read_bytes())["weight_map"]
    if not isinstance(found, dict) or not found:
        raise ValueError(f"checkpoint: {path}, weight_map: got no entries, expected names of files")
    for key, name in found.items():
        if not isinstance(name, str) or not SHARD.fullmatch(name):
            raise ValueError(
                f"checkpoint: {path}, weight_map, {key}: got {name!r}, expected the name of a "
                "safetensors file in the same folder"
            )
    return found


def shards_of(path: Path) -> list[Path]:
    """The files that an index names.

    Raises:
        ValueError: one is missing.
    """
    shards = [path.with_name(name) for name in sorted(set(read_map(path).values()))]
    for shard in (shard for shard in shards if not shard.is_file()):
        raise ValueError(
            f"checkpoint: {path} names {shard.name}, which is not beside it; expected "
            f"{len(shards)} files; copy or download them all"
        )
    return shards


def joined(path: Path, shards: Mapping[Path, Mapping[str, Any]]) -> dict[str, Tensor]:
    """The entries of an index, each from its shard.

    Args:
        path: of the index.
        shards: file -> its entries.

    Raises:
        ValueError: a shard lacks an entry, or has one that the index does not name.
    """
    places = {key: path.with_name(name) for key, name in read_map(path).items()}
    for key, shard in places.items():
        if key not in shards[shard]:
            raise ValueError(
                f"checkpoint: {path}: {shard.name} lacks {key}, which the index says is in it; "
                "copy or download both again"
            )
    for shard, entries in shards.items():
        for key in (key for key in entries if places.get(key) != shard):
            raise ValueError(
                f"checkpoint: {path}: {shard.name} holds {key}, of which the index knows nothing; "
                "it is another network's"
            )
    return {key: shards[shard][key] for key, shard in places.items()}
