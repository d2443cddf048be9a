"""Flipped images carry their boxes with them."""

import torch

from mgd_ssl.detection.flips import flip_boxes, flip_randomly


def test_a_flipped_box_holds_the_same_pixels() -> None:
    image = torch.zeros(1, 6, 10)
    image[:, 1:4, 2:7] = 1
    boxes = flip_boxes(torch.tensor([[2.0, 1.0, 7.0, 4.0]]), 10)
    assert boxes.tolist() == [[3.0, 1.0, 8.0, 4.0]]
    expected = torch.zeros(1, 6, 10)
    expected[:, 1:4, 3:8] = 1
    assert torch.equal(image.flip(-1), expected)


def test_certain_flips_undo_themselves_and_impossible_ones_change_nothing() -> None:
    images = [torch.rand(3, 4, 5), torch.rand(3, 6, 7)]
    targets = [
        {"boxes": torch.tensor([[0.0, 1.0, 2.0, 3.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    for p, times in ((0.0, 1), (1.0, 2)):
        flipped, moved = images, targets
        for _ in range(times):
            flipped, moved = flip_randomly(flipped, moved, p)
        for a, b in zip(flipped, images, strict=True):
            assert torch.equal(a, b)
        for t, u in zip(moved, targets, strict=True):
            assert torch.equal(t["boxes"], u["boxes"]) and torch.equal(t["labels"], u["labels"])


def test_about_half_are_flipped_and_the_seed_says_which() -> None:
    image = torch.arange(4.0).expand(1, 1, 4)
    targets = [{"boxes": torch.zeros(0, 4)}] * 1000
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        flipped, _ = flip_randomly([image] * 1000, targets)
        runs.append([bool(x[0, 0, 0]) for x in flipped])
    assert runs[0] == runs[1] != runs[2] and 400 < sum(runs[0]) < 600
