"""What drives a student in a step, one task or objective a file."""

from mgd_ssl.objectives.classification import Classification
from mgd_ssl.objectives.detection import Detection, DetectorTeacher
from mgd_ssl.objectives.moco import MoCo, projection_head
from mgd_ssl.objectives.pretraining import Pretraining
from mgd_ssl.objectives.task import Task, Teacher

__all__ = [
    "Classification",
    "Detection",
    "DetectorTeacher",
    "MoCo",
    "Pretraining",
    "Task",
    "Teacher",
    "projection_head",
]
