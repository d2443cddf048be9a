"""``.safetensors``: tensors ``features``, ``labels`` and ``files``: UTF-8, a zero between names."""

import json
from typing import IO, Any

import numpy as np

from mgd_ssl.exporting.feature_files.table import FeatureFile, FeatureTable

ALIGNED = 8  # bytes, as the format asks for


class SafetensorsTable(FeatureFile):
    """The library writes from memory alone, so the header is written here; the library reads it."""

    @staticmethod
    def write(file: IO[bytes], table: FeatureTable) -> None:
        """Write the header, then one tensor after the other."""
        names = "\0".join(table.files).encode()
        labels = b"" if table.labels is None else table.labels.astype("<i8").tobytes()
        count = len(table.files)
        sizes = {"features": ("F32", [count, table.dimension], 4 * count * table.dimension)}
        if table.labels is not None:
            sizes["labels"] = ("I64", [count], len(labels))
        sizes["files"] = ("U8", [len(names)], len(names))
        file.write(_header(sizes, {"mgd_ssl": table.metadata}))
        for rows in table.parts():
            file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        file.write(labels + names)


def _header(sizes: dict[str, tuple[str, list[int], int]], metadata: dict[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, (dtype, shape, size) in sizes.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(8, "little") + text
