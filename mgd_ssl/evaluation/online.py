"""kNN accuracy of a network during training."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.data import ImageLoader, eval_transform
from mgd_ssl.evaluation.features import Features, collect_features, collect_own_features
from mgd_ssl.evaluation.knn import knn_hits

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass
class OnlineKnn:
    """Top-1 accuracy of a network by its nearest neighbors, measured during training.

    Several processes share the images: each computes the features of some, and looks up its own
    queries in the whole bank, on the device. Every process must call it, and gets the figure.

    Attributes:
        bank: loader of labeled training images, this process's share.
        queries: loader of labeled validation images, this process's share.
        k: number of neighbors that vote; where fewer images of the bank can be decoded, all do.
        temperature: of their votes.
        device: of the network.
        counts: numbers of images of the last figure, and of those that could not be decoded.
    """

    bank: ImageLoader
    queries: ImageLoader
    k: int
    temperature: float
    device: torch.device
    counts: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def conditions(self) -> str:
        """How the last figure was measured, in words."""
        parts = []
        for name in ("val", "bank"):
            used = self.counts[f"{name}_images"]
            total = used + self.counts[f"{name}_unreadable"]
            parts.append(f"{used:,.0f} of {total:,.0f} {name}")
        k = min(self.k, int(self.counts["bank_images"]))
        return f"k {k}, T {self.temperature}; {' and '.join(parts)} images"

    def __call__(self, network: nn.Module, normalization: Normalization) -> float:
        """The accuracy in percent.

        Args:
            network: on the device.
            normalization: mean and standard deviation of its images, by channel.

        Raises:
            ValueError: a feature is not finite, or no query could be decoded.
        """
        transform = eval_transform(*normalization).to(self.device)
        options: Any = {"transform": transform, "device": self.device}
        bank = collect_features(network, self.bank, **options, what="features of kNN's bank")
        own = collect_own_features(network, self.queries, **options, what="features for kNN")
        correct = distributed.together(lambda: self._count_correct(bank, own))
        counts = (correct, len(own.labels), own.failed)
        sums = torch.tensor(counts, device=distributed.collective_device())
        correct, queries, failed = distributed.all_reduce_sum(sums).tolist()
        self.counts = {
            "bank_images": float(len(bank.labels)),
            "bank_unreadable": float(bank.failed),
            "val_images": float(queries),
            "val_unreadable": float(failed),
        }
        if not queries:
            raise ValueError("kNN: got no query that can be decoded, expected at least one")
        return float(100 * correct / queries)

    def _count_correct(self, bank: Features, queries: Features) -> int:
        """Number of queries whose class gets the largest vote."""
        if not len(queries.labels):
            return 0
        try:
            return self._count_on(self.device, bank, queries)
        except torch.cuda.OutOfMemoryError:  # training's memory leaves no room for the bank
            return self._count_on(torch.device("cpu"), bank, queries)

    def _count_on(self, device: torch.device, bank: Features, queries: Features) -> int:
        return knn_hits(
            bank.features.to(device),
            bank.labels,
            queries.features.to(device),
            queries.labels,
            min(self.k, len(bank.labels)),
            self.temperature,
        )[0]
