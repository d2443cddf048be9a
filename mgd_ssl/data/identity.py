"""Whether two sources hold the same images: a digest that no path enters."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.sources import THREADS, ImageSource
from mgd_ssl.progress import tracked

BLOCK = 4096


def data_digest(source: ImageSource) -> str:
    """SHA-256 of a source's images: what they are called below its folder, and how large they are.

    The same folder under another path, a link to it or a copy of it has the same digest. Of images
    that are in memory the pixels and labels count, of a detection source the boxes too. No file is
    read.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(THREADS) as pool:
        blocks = tracked(
            _mapped(pool, source),
            f"names and sizes of {source.name}",
            len(source),
            count=lambda _: BLOCK,
        )
        for part in blocks:
            digest.update(part)
    return digest.hexdigest()


def _mapped(pool: ThreadPoolExecutor, source: ImageSource) -> Iterator[bytes]:
    """The blocks' parts in order, a few of them at a time: pixels are not all copied at once."""
    blocks = (
        np.arange(start, min(start + BLOCK, len(source))) for start in range(0, len(source), BLOCK)
    )
    while some := list(islice(blocks, THREADS)):
        yield from pool.map(lambda block: _block(source, block), some)


def _block(source: ImageSource, indices: NDArray[np.int64]) -> bytes:
    return b"".join(_piece(part, some) for part, some in source.pieces(indices))


def _piece(source: ImageSource, indices: NDArray[np.int64]) -> bytes:
    array = source.read_array(indices)
    if array is None:
        parts = [_image(source, index) for index in indices.tolist()]
    else:
        labels = source.labels
        parts = [repr(array.shape).encode(), np.ascontiguousarray(array).tobytes()]
        parts += [] if labels is None else [labels[indices].tobytes()]
    return b"".join([*parts, source.annotation_bytes(indices)])


def _image(source: ImageSource, index: int) -> bytes:
    """Name and size of a file; shape and pixels of an image in memory."""
    if source.in_memory:
        pixels = np.asarray(source.read(index))
        return repr(pixels.shape).encode() + pixels.tobytes()
    name, size = source.stored(index)
    return os.fsencode(name) + b"\0" + str(size).encode() + b"\n"
