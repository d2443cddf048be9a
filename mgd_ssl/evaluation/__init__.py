"""Evaluators: functions that return numbers."""

from mgd_ssl.evaluation.knn import knn_accuracy, knn_search, knn_sweep

__all__ = ["knn_accuracy", "knn_search", "knn_sweep"]
