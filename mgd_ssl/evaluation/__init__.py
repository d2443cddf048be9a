"""Evaluators: functions that return numbers."""

from typing import TYPE_CHECKING

from mgd_ssl.lazy import lazy_names

if TYPE_CHECKING:
    from mgd_ssl.evaluation.knn import knn_accuracy, knn_search
    from mgd_ssl.evaluation.linear import linear_probe

__all__ = ["knn_accuracy", "knn_search", "linear_probe"]

__getattr__ = lazy_names(
    __name__, {"knn_accuracy": "knn", "knn_search": "knn", "linear_probe": "linear"}
)
