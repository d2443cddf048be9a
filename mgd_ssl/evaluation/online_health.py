"""The student's health as training goes, from unlabelled images; and an alarm on a collapse."""

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import ImageLoader, eval_transform
from mgd_ssl.evaluation.features import collect_shared
from mgd_ssl.evaluation.health import (
    effective_rank,
    feature_deviation,
    linear_cka,
    neighbour_overlap,
)

logger = logging.getLogger(__name__)
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
# Features after a ReLU share a direction: 0.15 is healthy there, so the alarm is far below.
LEAST_DEVIATION, LEAST_RANK = 0.02, 2.0


@dataclass
class OnlineHealth:
    """Neighbour overlap, CKA, effective rank and deviation of a student's features.

    Several processes share the images out; every one calls it, and gets the figures.

    Attributes:
        loader: of held-out images, this process's share; their labels are not looked at.
        k: neighbours of the overlap.
        device: where the networks are.
    """

    loader: ImageLoader
    k: int
    device: torch.device
    _teacher: Tensor | None = field(default=None, init=False)

    def watch(self, teacher: nn.Module, normalisation: Normalisation) -> None:
        """Compare with this network from now on; its features are taken once."""
        self._teacher = self._features(teacher, normalisation)

    def __call__(self, student: nn.Module, normalisation: Normalisation) -> dict[str, float]:
        """``health/…``; warns where the features have collapsed.

        Raises:
            ValueError: a feature is not finite.
        """
        features = self._features(student, normalisation)
        deviation = feature_deviation(features)
        constant = bool((features == features[0]).all())
        rank = 1.0 if constant else effective_rank(features)
        figures = {"health/effective_rank": rank, "health/deviation": deviation}
        figures["health_images"] = float(len(features))
        collapsed = deviation < LEAST_DEVIATION or rank < LEAST_RANK
        if collapsed and distributed.rank() == 0:
            logger.warning(
                "health: the student's features have collapsed (effective rank %.2f of %d, "
                "deviation %.3f); lower --lr, match a teacher (--teacher, --mgd-weight), or take "
                "an objective with negatives (--method moco)",
                *(rank, features.shape[1], deviation),
            )
        if self._teacher is not None and not constant:
            k = min(self.k, len(features) - 1)
            figures["health/neighbour_overlap"] = neighbour_overlap(self._teacher, features, k)
            figures["health/cka"] = linear_cka(self._teacher, features)
        return figures

    def _features(self, network: nn.Module, normalisation: Normalisation) -> Tensor:
        transform = eval_transform(*normalisation).to(self.device)
        return collect_shared(
            network, self.loader, transform=transform, device=self.device
        ).features
