"""Self-supervised and distillation losses: tensors in, a scalar out; one loss a file."""

from typing import TYPE_CHECKING

from mgd_ssl.lazy import lazy_names

if TYPE_CHECKING:
    from mgd_ssl.losses.blocks import projection_head
    from mgd_ssl.losses.compress import CompRess
    from mgd_ssl.losses.disco import DisCo
    from mgd_ssl.losses.moco import MoCo
    from mgd_ssl.losses.seed import SEED
    from mgd_ssl.losses.simreg import SimReg
    from mgd_ssl.losses.simsiam import SimSiam

__all__ = ["SEED", "CompRess", "DisCo", "MoCo", "SimReg", "SimSiam", "projection_head"]

__getattr__ = lazy_names(
    __name__,
    {
        "CompRess": "compress",
        "DisCo": "disco",
        "MoCo": "moco",
        "SEED": "seed",
        "SimReg": "simreg",
        "SimSiam": "simsiam",
        "projection_head": "blocks",
    },
)
