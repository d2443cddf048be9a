"""The picture of neighbors: where images stand, and how they are marked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mgd_ssl.evaluation.picture import RIGHT, WRONG, _check, retrieval_picture


def flat(levels: list[list[int]]) -> Tensor:
    """A 16×16 image of one gray level each."""
    return torch.tensor(levels, dtype=torch.uint8)[..., None, None, None].expand(-1, -1, 3, 16, 16)


QUERIES, NEIGHBORS = flat([[10, 20]])[0], flat([[30, 40, 50], [60, 70, 80]])


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def color_count(picture: NDArray[np.uint8], color: str) -> int:
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((picture == rgb).all(axis=2).sum())


def tile_levels(picture: NDArray[np.uint8]) -> list[list[int]]:
    """Gray level at the middle of each of the 2 × 4 tiles (16 pixels, 2 apart)."""
    height, width = picture.shape[:2]
    return [
        [
            int(
                picture[
                    int((2 + 18 * row + 9) / 38 * height), int((2 + 18 * col + 9) / 74 * width), 0
                ]
            )
            for col in range(4)
        ]
        for row in range(2)
    ]


@pytest.mark.parametrize("marked", [True, False])
def test_each_image_stands_in_its_place(tmp_path: Path, marked: bool) -> None:
    correct = torch.tensor([[1, 0, 1], [0, 0, 1]]).bool() if marked else None
    path = retrieval_picture(QUERIES, NEIGHBORS, correct, tmp_path / "deep" / "picture.png")
    assert tile_levels(pixels(path)) == [[10, 30, 40, 50], [20, 60, 70, 80]]
    assert np.asarray(Image.open(path))[0, 0, 3] == 0  # the page shows between the images


def test_right_and_wrong_are_marked_and_unlabeled_are_not(tmp_path: Path) -> None:
    counts = {}
    for name, correct in {
        "right": torch.ones(2, 3).bool(),
        "wrong": torch.zeros(2, 3).bool(),
        "none": None,
    }.items():
        picture = pixels(retrieval_picture(QUERIES, NEIGHBORS, correct, tmp_path / f"{name}.png"))
        counts[name] = [color_count(picture, color) > 500 for _, color in (RIGHT, WRONG)]
    assert counts == {"right": [True, False], "wrong": [False, True], "none": [False, False]}


@pytest.mark.parametrize(
    ("queries", "found", "correct", "message"),
    [
        (QUERIES[:0], NEIGHBORS[:0], None, "at least one"),
        (QUERIES, NEIGHBORS[:1], None, "expected \\(Q,3,H,W\\) and"),
        (QUERIES, NEIGHBORS, torch.ones(2, 2).bool(), "correct: got shape"),
        (QUERIES, NEIGHBORS[:, :1].expand(-1, 300, -1, -1, -1), None, "fewer than 200"),
    ],
)
def test_pictures_that_make_no_sense_are_refused(
    queries: Tensor, found: Tensor, correct: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _check(queries, found, correct)
