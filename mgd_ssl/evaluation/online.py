"""kNN accuracy of a network as training goes."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mgd_ssl import distributed
from mgd_ssl.data import ImageLoader, eval_transform
from mgd_ssl.evaluation.features import Features, collect_share, collect_shared
from mgd_ssl.evaluation.knn import knn_hits


@dataclass
class OnlineKnn:
    """Top-1 accuracy of a network by its nearest neighbours.

    Several processes take the features of a share of the images each, and each looks up its own
    queries among all of the bank, on the device: every process calls it, and gets the figure.

    Attributes:
        bank: loader of labelled training images, this process's share.
        queries: loader of labelled validation images, this process's share.
        k: neighbours that vote, at most the bank's size.
        temperature: of their votes.
        device: where the network is.
        counts: images that the last figure is over, and those that could not be decoded.
    """

    bank: ImageLoader
    queries: ImageLoader
    k: int
    temperature: float
    device: torch.device
    counts: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def settings(self) -> str:
        """What stands beside every figure."""
        return f"k {self.k}, T {self.temperature}"

    @property
    def coverage(self) -> str:
        """How many of how many images the last figure is over, in words."""
        parts = []
        for name in ("val", "bank"):
            used = self.counts[f"{name}_images"]
            total = used + self.counts[f"{name}_unreadable"]
            parts.append(f"{used:,.0f} of {total:,.0f} {name}")
        return f"{' and '.join(parts)} images"

    def __call__(
        self, network: nn.Module, normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    ) -> float:
        """In percent; ``normalisation`` is (mean, std) of the network's images."""
        common: dict[str, Any] = {
            "transform": eval_transform(*normalisation).to(self.device),
            "device": self.device,
        }
        bank = collect_shared(network, self.bank, **common)
        mine = collect_share(network, self.queries, **common)
        right = distributed.together(lambda: self._right(bank, mine))
        found = (right, len(mine.labels), mine.failed)
        sums = torch.tensor(found, device=distributed.collective_device())
        right, queries, failed = distributed.all_reduce_sum(sums).tolist()
        self.counts = {
            "bank_images": float(len(bank.labels)),
            "bank_unreadable": float(bank.failed),
            "val_images": float(queries),
            "val_unreadable": float(failed),
        }
        if not queries:
            raise ValueError("kNN: got no query that can be decoded, expected at least one")
        return float(100 * right / queries)

    def _right(self, bank: Features, queries: Features) -> int:
        """Queries whose class the vote finds."""
        if not len(queries.labels):
            return 0
        try:
            return self._right_on(self.device, bank, queries)
        except torch.cuda.OutOfMemoryError:  # the bank, beside what training holds
            return self._right_on(torch.device("cpu"), bank, queries)

    def _right_on(self, device: torch.device, bank: Features, queries: Features) -> int:
        return knn_hits(
            bank.features.to(device),
            bank.labels,
            queries.features.to(device),
            queries.labels,
            self.k,
            self.temperature,
        )[0]
