"""Flipped images carry their boxes with them."""

import torch

from mgd_ssl.detection.flips import flip_randomly


def test_a_flipped_box_holds_the_same_pixels() -> None:
    image = torch.zeros(1, 6, 10)
    image[:, 1:4, 2:7] = 1
    labels = torch.tensor([5])
    target = {"boxes": torch.tensor([[2.0, 1.0, 7.0, 4.0]]), "labels": labels}
    (flipped,), (moved,) = flip_randomly([image], [target], p=1.0)
    assert moved["boxes"].tolist() == [[3.0, 1.0, 8.0, 4.0]] and moved["labels"] is labels
    expected = torch.zeros(1, 6, 10)
    expected[:, 1:4, 3:8] = 1
    assert torch.equal(flipped, expected)
    assert type(flipped) is type(moved["boxes"]) is torch.Tensor


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


def test_boxes_move_as_the_formula_says_and_each_image_takes_one_number() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 7, 5 + i, generator=generator) for i in range(20)]
    targets = [{"boxes": torch.rand(i % 3, 4, generator=generator)} for i in range(20)]
    torch.manual_seed(7)
    flips = torch.rand(20) < 0.5
    torch.manual_seed(7)
    _, moved = flip_randomly(images, targets)
    for image, before, after, flip in zip(images, targets, moved, flips, strict=True):
        x1, y1, x2, y2 = before["boxes"].unbind(1)
        width = image.shape[-1]
        expected = torch.stack([width - x2, y1, width - x1, y2], 1) if flip else before["boxes"]
        assert torch.equal(after["boxes"], expected)
