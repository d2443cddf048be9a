"""Matching Guided Distillation of self-supervised teachers into small backbones.

The names below are the stable ones; each is imported when it is first used.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mgd_ssl.lazy import lazy_names

if TYPE_CHECKING:
    from mgd_ssl.distiller import FeatureDistiller
    from mgd_ssl.evaluation.knn import knn_accuracy
    from mgd_ssl.evaluation.linear import linear_probe
    from mgd_ssl.models.backbones import create_backbone
    from mgd_ssl.models.checkpoints import load_backbone
    from mgd_ssl.pairing import Pair, pair_networks
    from mgd_ssl.runs.programs import pretrain

__all__ = [
    "FeatureDistiller",
    "Pair",
    "__version__",
    "create_backbone",
    "knn_accuracy",
    "linear_probe",
    "load_backbone",
    "pair_networks",
    "pretrain",
]

_lazy = lazy_names(
    __name__,
    {
        "FeatureDistiller": "distiller",
        "Pair": "pairing",
        "create_backbone": "models.backbones",
        "knn_accuracy": "evaluation.knn",
        "linear_probe": "evaluation.linear",
        "load_backbone": "models.checkpoints",
        "pair_networks": "pairing",
        "pretrain": "runs.programs",
    },
)


def __getattr__(name: str) -> Any:
    return version("mgd_ssl") if name == "__version__" else _lazy(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
