"""Evaluators: functions that return numbers."""

from mgd_ssl.evaluation.accuracy import Accuracy, classifier_accuracy
from mgd_ssl.evaluation.features import Features, collect_features, extract_features
from mgd_ssl.evaluation.health import (
    effective_rank,
    feature_deviation,
    linear_cka,
    neighbour_overlap,
)
from mgd_ssl.evaluation.knn import knn_accuracy, knn_search, knn_sweep
from mgd_ssl.evaluation.linear import linear_probe
from mgd_ssl.evaluation.moco_linear import assert_only_head_changed, train_linear_classifier
from mgd_ssl.evaluation.picture import retrieval_picture
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.evaluation.retrieval import neighbours, retrieval_scores

__all__ = [
    "Accuracy",
    "Features",
    "assert_only_head_changed",
    "classifier_accuracy",
    "collect_features",
    "effective_rank",
    "extract_features",
    "feature_deviation",
    "knn_accuracy",
    "knn_search",
    "knn_sweep",
    "linear_cka",
    "linear_probe",
    "neighbour_overlap",
    "neighbours",
    "print_table",
    "retrieval_picture",
    "retrieval_scores",
    "train_linear_classifier",
    "write_json",
]
