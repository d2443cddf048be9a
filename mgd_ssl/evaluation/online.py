"""kNN accuracy of a network as training goes."""

from dataclasses import dataclass

import torch
from torch import nn

from mgd_ssl.data import CanvasLoader, eval_transform
from mgd_ssl.evaluation.features import extract_features
from mgd_ssl.evaluation.knn import knn_accuracy


@dataclass(frozen=True)
class OnlineKnn:
    """Top-1 accuracy of a network by its nearest neighbours.

    Attributes:
        bank: loader of labelled training images.
        queries: loader of labelled validation images.
        k: neighbours that vote, at most the bank's size.
        temperature: of their votes.
        device: where the network is.
    """

    bank: CanvasLoader
    queries: CanvasLoader
    k: int
    temperature: float
    device: torch.device

    @property
    def settings(self) -> str:
        """What stands beside every figure."""
        return f"k {self.k}, T {self.temperature}"

    def __call__(
        self, network: nn.Module, normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    ) -> float:
        """In percent; ``normalisation`` is (mean, std) of the network's images."""
        transform = eval_transform(*normalisation).to(self.device)
        features = [
            extract_features(network, loader, transform=transform, device=self.device)
            for loader in (self.bank, self.queries)
        ]
        (bank, bank_labels), (queries, labels) = features
        scores = knn_accuracy(
            bank, bank_labels, queries, labels, k=self.k, temperature=self.temperature
        )
        return float(scores["top1"])
