"""A picture of queries and their nearest neighbors, marked as right or wrong."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from mgd_ssl.files import write_whole

GAP = 0.12  # of a tile's side, between tiles
TILE_INCHES = 0.9
MAX_TILES = 200  # per side: a picture of 200 × 0.9 inches at 100 dpi is 18,000 pixels wide
# Signs besides the colors, for readers who cannot tell these apart.
QUERY, RIGHT, WRONG = ("?", "#1f4fbf"), ("✓", "#1a7f37"), ("✗", "#c62828")


def retrieval_picture(
    query_images: UInt8[Tensor, "q 3 h w"],
    neighbor_images: UInt8[Tensor, "q n 3 h w"],
    correct: Bool[Tensor, "q n"] | None,
    path: str | Path,
) -> Path:
    """Write a PNG with a row for each query: the query, then its neighbors, nearest first.

    The query is framed in blue with a question mark.

    Args:
        query_images: (Q,3,H,W).
        neighbor_images: (Q,N,3,H,W).
        correct: whether each neighbor is of the query's class, framed in green with ✓ or in
            red with ✗; None if there are no labels, and nothing is marked.
        path: of the PNG; a missing folder is created.

    Returns:
        The path.

    Raises:
        ValueError: no query or no neighbor, shapes that do not agree, or too many tiles.
    """
    _check(query_images, neighbor_images, correct)
    tiles = torch.cat([query_images[:, None], neighbor_images], dim=1).cpu()
    rows, _, _, height, width = tiles.shape
    gap = max(2, round(GAP * max(height, width)))
    mosaic = _mosaic(tiles, gap)
    inches = TILE_INCHES / width  # a pixel
    figure = Figure(figsize=(mosaic.shape[1] * inches, mosaic.shape[0] * inches))
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.axis("off")
    for row in range(rows):
        _mark(axes, gap, gap + row * (height + gap), width, height, *QUERY)
        for column, right in enumerate([] if correct is None else correct[row].tolist(), start=1):
            x, y = gap + column * (width + gap), gap + row * (height + gap)
            _mark(axes, x, y, width, height, *(RIGHT if right else WRONG))
    path = Path(path)
    write_whole(path, FigureCanvasAgg(figure).print_png)
    return path


def _check(queries: Tensor, neighbors: Tensor, correct: Tensor | None) -> None:
    if not queries.numel() or not neighbors.numel():
        raise ValueError(
            f"got {len(queries)} queries and neighbors of shape {tuple(neighbors.shape)}, "
            "expected at least one of each"
        )
    if neighbors[:, 0].shape != queries.shape:
        raise ValueError(
            f"got queries of shape {tuple(queries.shape)} and neighbors of shape "
            f"{tuple(neighbors.shape)}, expected (Q,3,H,W) and (Q,N,3,H,W)"
        )
    if correct is not None and correct.shape != neighbors.shape[:2]:
        raise ValueError(
            f"correct: got shape {tuple(correct.shape)}, expected {tuple(neighbors.shape[:2])}"
        )
    if max(neighbors.shape[:2]) >= MAX_TILES:
        raise ValueError(
            f"got {neighbors.shape[0]} queries with {neighbors.shape[1]} neighbors, expected "
            f"fewer than {MAX_TILES} of each: draw fewer"
        )


def _mosaic(tiles: UInt8[Tensor, "q n 3 h w"], gap: int) -> NDArray[np.uint8]:
    """Tiles on nothing, ``gap`` pixels apart and from the edge: (height, width, 4)."""
    opaque = torch.full_like(tiles[:, :, :1], 255)
    padded = torch.nn.functional.pad(torch.cat([tiles, opaque], dim=2), (gap, 0, gap, 0))
    rows, columns, channels, height, width = padded.shape
    sheet = padded.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return np.pad(sheet.numpy(), ((0, gap), (0, gap), (0, 0)))


def _mark(axes: Axes, x: int, y: int, width: int, height: int, sign: str, color: str) -> None:
    """A colored frame around the tile whose first pixel is (x, y), and a sign in its corner."""
    corner = x - 0.5, y - 0.5  # pixels are centered on whole numbers
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=2))
    box = {"facecolor": color, "edgecolor": "none", "pad": 1.5}
    axes.text(*corner, sign, color="white", fontsize=8, ha="left", va="top", bbox=box)
