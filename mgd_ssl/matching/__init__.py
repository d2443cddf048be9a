"""The method: tensors in, tensors out."""

from mgd_ssl.choices import REDUCERS, AssignmentMode
from mgd_ssl.matching.assignment import assign_channels, matched_pairs, share_channels, total_cost
from mgd_ssl.matching.cost import CostAccumulator, channel_cost, float64_device
from mgd_ssl.matching.losses import kd_loss, matching_loss, partial_l2
from mgd_ssl.matching.margins import batchnorm_margin
from mgd_ssl.matching.reducers import (
    gather_groups,
    gather_margin,
    group_mask,
)
from mgd_ssl.matching.schedule import (
    detection_iterations,
    evenly_spaced_epochs,
    unsupervised_epochs,
)
from mgd_ssl.matching.statistics import ChannelStatistics, StatisticsAccumulator
from mgd_ssl.matching.totals import detection_weights, stage_weights

__all__ = [
    "REDUCERS",
    "AssignmentMode",
    "ChannelStatistics",
    "CostAccumulator",
    "StatisticsAccumulator",
    "assign_channels",
    "batchnorm_margin",
    "channel_cost",
    "detection_iterations",
    "detection_weights",
    "evenly_spaced_epochs",
    "float64_device",
    "gather_groups",
    "gather_margin",
    "group_mask",
    "kd_loss",
    "matched_pairs",
    "matching_loss",
    "partial_l2",
    "share_channels",
    "stage_weights",
    "total_cost",
    "unsupervised_epochs",
]
