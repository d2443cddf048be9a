"""Images of one source that are also in another, or look like one of it."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.progress import tracked

SIDE = 8  # of the grid whose neighbors are compared: 64 bits across, 64 down
BITS = 2 * SIDE * SIDE
NEAR = 8  # of 3,925 validation images of Imagenette none is as near to a training image
LEVELS = 0.5  # of 255 levels of gray, for each bit that may differ: mean difference of the cells
TRIED = 64  # of the likest, whose brightness is compared
AHEAD = 4096  # images that are handed to the threads at once
DIGEST = 16  # bytes


@dataclass(frozen=True)
class Prints:
    """What identifies the images of a source.

    Attributes:
        digests: (N,) of 16 bytes, of each image's file, or of its pixels where it has none.
        looks: (N, 16) uint8, bits of what each image looks like; see :func:`look`.
        cells: (N, 81) uint8, gray levels of what each image looks like; see :func:`cells_of`.
        unreadable: images that cannot be decoded, and take no part.
    """

    digests: NDArray[np.void]
    looks: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    unreadable: NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """An image, the one of the other source that is like it, and how many bits differ.

    ``distance`` is -1 where both are the same file.
    """

    index: int
    other: int
    distance: int


@dataclass(frozen=True)
class Duplicates:
    """Images that are in another source too.

    Attributes:
        exact: the same files, or the same pixels of images in memory.
        near: others that look alike.
        unreadable: images of both sources that cannot be decoded.
    """

    exact: list[Pair]
    near: list[Pair]
    unreadable: int


def find_duplicates(
    source: ImageSource, other: ImageSource, near: int = NEAR, workers: int = 1
) -> Duplicates:
    """Images of a source that are also in another, each paired with the likest of that one.

    Args:
        source: such as validation images.
        other: such as training images.
        near: bits of 128 that may differ between images that look alike, 0 or more, and twice the
            gray levels by which the cells of their grids may differ on average; -1 looks for the
            same files alone.
        workers: threads that decode.

    Raises:
        ValueError: ``near`` is no such number.
    """
    if not -1 <= near < BITS:
        raise ValueError(f"near: got {near}, expected -1 to {BITS - 1} bits of {BITS}")
    mine, theirs = take_prints(source, workers), take_prints(other, workers)
    exact = _same(mine, theirs)
    unreadable = len(mine.unreadable) + len(theirs.unreadable)
    found = {pair.index for pair in exact}
    alike = [] if near < 0 else [p for p in _alike(mine, theirs, near) if p.index not in found]
    return Duplicates(exact, alike, unreadable)


def take_prints(source: ImageSource, workers: int = 1) -> Prints:
    """What identifies each image of a source."""
    count = len(source)
    digests, looks = np.zeros(count, f"V{DIGEST}"), np.zeros((count, BITS // 8), np.uint8)
    every = np.zeros((count, (SIDE + 1) ** 2), np.uint8)
    bad = list[int]()
    with ThreadPoolExecutor(workers) as pool:
        prints = tracked(_printed(pool, source), f"looking at {source.name}", count)
        for index, (digest, cells) in enumerate(prints):
            digests[index] = digest
            if cells is None:
                bad.append(index)
            else:
                looks[index], every[index] = look(cells), cells.ravel()
    return Prints(digests, looks, every, np.array(bad, np.int64))


def _printed(
    pool: ThreadPoolExecutor, source: ImageSource
) -> Iterator[tuple[bytes, NDArray[np.uint8] | None]]:
    """The digests and cells of all images in order, some of them at a time."""
    indices = iter(range(len(source)))
    while some := list(islice(indices, AHEAD)):
        yield from pool.map(lambda index: _print(source, index), some)


def _print(source: ImageSource, index: int) -> tuple[bytes, NDArray[np.uint8] | None]:
    try:
        data = source.encoded(index)
        content = source.read(index).tobytes() if data is None else data
        cells = cells_of(source.open(index))
    except Exception:  # decoders raise anything on damaged files
        return bytes(DIGEST), None
    return hashlib.blake2b(content, digest_size=DIGEST).digest(), cells


def cells_of(picture: Picture) -> NDArray[np.uint8]:
    """Mean gray levels of a grid of 9×9 cells: (9, 9) uint8."""
    picture.reduce(min(picture.size) / (4 * SIDE))
    gray = picture.load().convert("L").resize((SIDE + 1, SIDE + 1), Image.Resampling.BOX)
    return np.asarray(gray)


def look(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whether an image gets brighter from one of its (9, 9) cells to the next: (16,) uint8.

    64 bits compare cells with those to their right, 64 with those below them. Sizes, compression
    and brightness hardly change them; a mirrored or turned image is another. Flat parts, whose
    cells are equal, say nothing.

    Source: N. Krawetz, Kind of Like That, 2013 (dHash), in both directions.
    """
    across = cells[:SIDE, 1:] > cells[:SIDE, :-1]
    down = cells[1:, :SIDE] > cells[:-1, :SIDE]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()]))


def _same(mine: Prints, theirs: Prints) -> list[Pair]:
    """Images of the same digest, each with the first of the other source."""
    first: dict[bytes, int] = {}
    bad = set(theirs.unreadable.tolist())
    for index, digest in enumerate(theirs.digests):
        if index not in bad:
            first.setdefault(digest.tobytes(), index)
    left_out = set(mine.unreadable.tolist())
    return [
        Pair(index, first[digest.tobytes()], -1)
        for index, digest in enumerate(mine.digests)
        if index not in left_out and digest.tobytes() in first
    ]


def _alike(mine: Prints, theirs: Prints, near: int) -> list[Pair]:
    """Images whose looks and cells differ little, each with the likest of the other source."""
    import faiss  # slow to import, and rarely needed

    index = faiss.IndexBinaryFlat(BITS)
    kept = [np.delete(np.arange(len(p.looks)), p.unreadable) for p in (mine, theirs)]
    if not all(map(len, kept)):
        return []
    index.add(theirs.looks[kept[1]])
    distances, nearest = index.search(mine.looks[kept[0]], min(TRIED, len(kept[1])))
    others = kept[1][nearest]
    pairs = list[Pair]()
    for row in np.flatnonzero(distances[:, 0] <= near):
        apart = _levels(mine.cells[kept[0][row]], theirs.cells[others[row]])
        alike = np.flatnonzero((distances[row] <= near) & (apart <= LEVELS * near))
        if len(alike):
            first = alike[0]
            pairs.append(
                Pair(int(kept[0][row]), int(others[row, first]), int(distances[row, first]))
            )
    return pairs


def _levels(cells: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean differences (K,) of gray levels of an image's cells (81,) from others' (K, 81)."""
    difference = others.astype(np.int16) - cells.astype(np.int16)
    return np.asarray(np.abs(difference).mean(axis=1))
