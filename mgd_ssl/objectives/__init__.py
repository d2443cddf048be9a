"""Self-supervised objectives of the student, one a file."""

from mgd_ssl.objectives.moco import MoCo, projection_head
from mgd_ssl.objectives.pretraining import Pretraining

__all__ = ["MoCo", "Pretraining", "projection_head"]
