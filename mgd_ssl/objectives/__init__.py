"""What drives a student in a step, one task or objective a file."""

from mgd_ssl.objectives.classification import Classification
from mgd_ssl.objectives.compress import CompRess
from mgd_ssl.objectives.detection import Detection, DetectorTeacher
from mgd_ssl.objectives.disco import DisCo
from mgd_ssl.objectives.moco import MoCo, projection_head
from mgd_ssl.objectives.objective import Objective, Views
from mgd_ssl.objectives.pretraining import Pretraining
from mgd_ssl.objectives.seed import SEED
from mgd_ssl.objectives.simreg import SimReg
from mgd_ssl.objectives.simsiam import SimSiam
from mgd_ssl.objectives.task import FrozenTeacher, Task, Teacher

__all__ = [
    "SEED",
    "Classification",
    "CompRess",
    "Detection",
    "DetectorTeacher",
    "DisCo",
    "FrozenTeacher",
    "MoCo",
    "Objective",
    "Pretraining",
    "SimReg",
    "SimSiam",
    "Task",
    "Teacher",
    "Views",
    "projection_head",
]
