"""Images in the rows of a Hugging Face data set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.path_list import PathList
from mgd_ssl.data.sources import EncodedSource


class HubSource(EncodedSource):
    """Image files in a column of a data set of the package ``datasets``, which maps its memory.

    Args:
        rows: the data set, its images not decoded.
        column: of the images.
        name: what a report calls the source.
        max_pixels: of an image that is decoded; None for Pillow's limit of 89,478,485.

    Raises:
        ValueError: no row holds the bytes of an image.
    """

    def __init__(self, rows: Any, column: str, name: str, max_pixels: int | None = None) -> None:
        self._rows, self._column, self.name, self.max_pixels = rows, column, name, max_pixels
        values = rows.data.column(column)
        self._sizes = _sizes(values)
        self._names = _names(values)
        if not (self._sizes >= 0).any():
            raise ValueError(
                f"{name}: no row of {column} holds an image's bytes, at most names of files, which "
                "are not followed; expected the images themselves. Write the data with them."
            )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._sizes)

    def encoded(self, index: int) -> bytes:
        """The image file in row ``index``; raises where there is none."""
        value = self._rows[index][self._column]
        data = value["bytes"] if isinstance(value, dict) else value
        if data is None:
            raise ValueError("no image in this row")
        return bytes(data)

    def stored(self, index: int) -> tuple[str, int]:
        """What row ``index`` calls its image, else the number of the row, and its size."""
        name = self._names[index] if self._names is not None else ""
        return name or str(index), int(self._sizes[index])

    def describe(self, index: int) -> str:
        """``data[index]``."""
        return f"{self.name}[{index}]"

    def annotation_bytes(self, indices: NDArray[np.int64]) -> bytes:
        """The labels."""
        return b"" if self.labels is None else self.labels[indices].tobytes()


def _field(values: Any, name: str) -> Any:
    """A field of a column of records, or None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_struct(values.type) or values.type.get_field_index(name) < 0:
        return None
    return pc.struct_field(values, name)


def _sizes(values: Any) -> NDArray[np.int64]:
    """Bytes of each image, -1 where there are none; no image is read."""
    import pyarrow.compute as pc

    content = _field(values, "bytes")
    lengths = pc.binary_length(values if content is None else content)
    found: NDArray[np.int64] = pc.fill_null(lengths, -1).to_numpy().astype(np.int64)
    return found


def _names(values: Any) -> PathList | None:
    """What the images are called, "" where that is not said; None where it never is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    paths = _field(values, "path")
    if paths is None or pa.types.is_null(paths.type):  # as pandas writes a field of None alone
        return None
    texts, ends, base = [], [], 0
    for chunk in pc.fill_null(paths, "").chunks:
        chunk = chunk.cast(pa.large_string())
        _, offsets, text = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        content = np.frombuffer(text or b"", np.uint8)[bounds[0] : bounds[-1]]
        texts.append(content)
        ends.append(bounds[1:] - bounds[0] + base)
        base += len(content)
    if not base:
        return None
    return PathList.of(np.concatenate(texts), np.concatenate(ends))
