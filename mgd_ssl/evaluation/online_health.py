"""Health of the student during training, from unlabeled images, and an alarm on a collapse."""

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import ImageLoader, eval_transform
from mgd_ssl.evaluation.collapse import collapse_signs
from mgd_ssl.evaluation.features import collect_features
from mgd_ssl.evaluation.health import (
    effective_rank,
    feature_deviation,
    linear_cka,
    neighbor_overlap,
)
from mgd_ssl.evaluation.online import Normalization

logger = logging.getLogger(__name__)
AGREEMENT = "health/neighbor_overlap"  # of a row of metrics.jsonl
WITHOUT_TEACHER = ", or match a teacher (--teacher)"


@dataclass
class OnlineHealth:
    """Neighbor overlap, CKA, effective rank and deviation of a student's features.

    Several processes share the images. Every process must call it, and gets the figures.

    Attributes:
        loader: of held-out images, this process's share; labels are ignored.
        k: number of neighbors of the overlap.
        device: of the networks.
    """

    loader: ImageLoader
    k: int
    device: torch.device
    _teacher: Tensor | None = field(default=None, init=False)

    def set_teacher(
        self, teacher: nn.Module, normalization: Normalization, loader: ImageLoader | None = None
    ) -> None:
        """Compare students with this network, whose features are computed once.

        Args:
            teacher: on the device.
            normalization: of its images.
            loader: the same images at the teacher's size. None: it sees those of the student.
        """
        self._teacher = self._features(teacher, normalization, loader or self.loader)

    def __call__(self, student: nn.Module, normalization: Normalization) -> dict[str, float]:
        """Figures by their names in metrics.jsonl; warns if the features have collapsed.

        Raises:
            ValueError: a feature is not finite.
        """
        features = self._features(student, normalization, self.loader)
        deviation = feature_deviation(features)
        constant = bool((features == features[0]).all())
        rank = 1.0 if constant else effective_rank(features)
        figures = {"health/effective_rank": rank, "health/deviation": deviation}
        figures["health_images"] = float(len(features))
        signs = collapse_signs(rank, deviation, of=features.shape[1])
        if signs and distributed.rank() == 0:
            logger.warning(
                "health: the student's features have collapsed (%s); if this lasts beyond the "
                "first epochs, lower --lr%s",
                signs,
                "" if self._teacher is not None else WITHOUT_TEACHER,
            )
        if self._teacher is not None and not constant:
            k = min(self.k, len(features) - 1)
            figures["health_neighbors"] = float(k)
            figures[AGREEMENT] = neighbor_overlap(self._teacher, features, k)
            figures["health/cka"] = linear_cka(self._teacher, features)
        return figures

    def _features(
        self, network: nn.Module, normalization: Normalization, loader: ImageLoader
    ) -> Tensor:
        transform = eval_transform(*normalization).to(self.device)
        return collect_features(
            network, loader, transform=transform, device=self.device, what="health"
        ).features
