"""What a training step computes: one task a file."""

from mgd_ssl.tasks.classification import Classification
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import FrozenTeacher, Task, Teacher

__all__ = ["Classification", "FrozenTeacher", "Pretraining", "Task", "Teacher"]
