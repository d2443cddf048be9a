"""Self-supervised objectives of the student, one a file."""

from mgd_ssl.objectives.moco import MoCo, projection_head

__all__ = ["MoCo", "projection_head"]
