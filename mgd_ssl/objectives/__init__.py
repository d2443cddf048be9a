"""What drives the student of a pretraining run: one objective a file.

An objective's file holds its options, what it needs, and how its loss is built and called. Nothing
here loads torch, so that the options can be read before it.
"""

from mgd_ssl.objectives.compress import CompRess
from mgd_ssl.objectives.disco import DisCo
from mgd_ssl.objectives.moco import MoCo
from mgd_ssl.objectives.objective import Objective, Step
from mgd_ssl.objectives.seed import SEED
from mgd_ssl.objectives.simreg import SimReg
from mgd_ssl.objectives.simsiam import SimSiam

OBJECTIVES: dict[str, type[Objective]] = {
    "moco": MoCo,
    "simreg": SimReg,
    "seed": SEED,
    "compress": CompRess,
    "disco": DisCo,
    "simsiam": SimSiam,
}

__all__ = ["OBJECTIVES", "Objective", "Step"]
