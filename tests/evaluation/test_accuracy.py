"""Top-1 and top-5 against hand figures."""

import pytest
import torch
from torch import nn

from mgd_ssl.data import Batch
from mgd_ssl.evaluation.accuracy import classifier_accuracy, within_top


class FirstRow(nn.Module):
    """Logits are the first row of the image, so that each image says its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 0]


def batch(logits: list[list[int]], labels: list[int], failed: list[int]) -> Batch:
    images = torch.tensor(logits, dtype=torch.uint8)[:, None, None].expand(-1, 3, 2, -1)
    n = len(labels)
    return Batch(images, torch.tensor(labels), torch.arange(n), torch.tensor(failed))


def measure(*batches: Batch) -> dict[str, float]:
    return dict(
        classifier_accuracy(FirstRow(), batches, transform=torch.Tensor.float, device="cpu")
    )


def test_a_class_is_within_the_top_five_by_its_rank() -> None:
    scores = torch.stack([torch.randperm(7) for _ in range(12)]).view(3, 4, 7).float()
    labels = torch.tensor([2, 0, 6])
    found = within_top(scores, labels[:, None])
    rank = 6 - scores.gather(2, labels[:, None, None].expand(3, 4, 1))[..., 0]
    assert torch.equal(found, torch.stack([rank < 1, rank < 5], dim=2))


def test_hand_figures_over_two_batches_with_an_undecodable_image() -> None:
    ranked = [[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4]]
    first = batch(ranked, [0, 4, 5], [-1, -1, -1])  # first, fifth, not among five
    second = batch(ranked[:2], [0, 0], [-1, 1])  # right; replaced, so left out
    assert measure(first, second) == {"top1": 50.0, "top5": 75.0, "images": 4}


def test_a_batch_of_which_nothing_can_be_decoded_reaches_the_network_whole() -> None:
    last = batch([[9, 8]] * 2, [0, 0], [0, 1])
    seen: list[int] = []

    class Watched(FirstRow):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return super().forward(x)

    batches = [batch([[9, 8]], [0], [-1]), last]
    options = {"transform": torch.Tensor.float, "device": "cpu"}
    found = classifier_accuracy(Watched(), batches, **options)  # type: ignore[arg-type]
    assert seen == [1, 2] and found["images"] == 1 and found["top1"] == 100.0


def test_with_fewer_than_five_classes_every_image_is_within_the_top_5() -> None:
    assert measure(batch([[1, 2, 3]] * 2, [0, 2], [-1, -1])) == {
        "top1": 50.0,
        "top5": 100.0,
        "images": 2,
    }


def test_a_label_that_the_classifier_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="got labels 0 to 3, expected 0 to 2"):
        measure(batch([[1, 2, 3]] * 2, [0, 3], [-1, -1]))


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="got no image that can be decoded"):
        measure(batch([[1, 2, 3]], [0], [0]))
