"""What drives a student in a step, one task or objective a file."""

from mgd_ssl.objectives.compress import CompRess
from mgd_ssl.objectives.disco import DisCo
from mgd_ssl.objectives.moco import MoCo, projection_head
from mgd_ssl.objectives.objective import Objective, Views
from mgd_ssl.objectives.seed import SEED
from mgd_ssl.objectives.simreg import SimReg
from mgd_ssl.objectives.simsiam import SimSiam

__all__ = [
    "SEED",
    "CompRess",
    "DisCo",
    "MoCo",
    "Objective",
    "SimReg",
    "SimSiam",
    "Views",
    "projection_head",
]
