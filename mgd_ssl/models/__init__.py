"""Networks, taps and checkpoint layouts; nothing about training."""

from mgd_ssl.models.backbones import (
    BackboneSpec,
    backbone_state,
    create_backbone,
    create_classifier,
    head_of,
    set_head,
    without_head,
)
from mgd_ssl.models.batch_norm import split_batch_norms
from mgd_ssl.models.checkpoints import find_backbone, load_backbone, load_classifier
from mgd_ssl.models.filling import KeyReport, check_values
from mgd_ssl.models.modes import evaluating, keeping_buffers, undone_on_error
from mgd_ssl.models.pooling import pool
from mgd_ssl.models.provenance import Provenance
from mgd_ssl.models.tap_finder import TappedNetwork, find_reader, find_taps
from mgd_ssl.models.taps import ContractReader, FeatureReader, Tap, Taps, naming_size, probe
from mgd_ssl.models.token_features import FeatureChoice, TokenFeatures, find_features
from mgd_ssl.models.weights import find_checkpoint, read_checkpoint

__all__ = [
    "BackboneSpec",
    "ContractReader",
    "FeatureChoice",
    "FeatureReader",
    "KeyReport",
    "Provenance",
    "Tap",
    "TappedNetwork",
    "Taps",
    "TokenFeatures",
    "backbone_state",
    "check_values",
    "create_backbone",
    "create_classifier",
    "evaluating",
    "find_backbone",
    "find_checkpoint",
    "find_features",
    "find_reader",
    "find_taps",
    "head_of",
    "keeping_buffers",
    "load_backbone",
    "load_classifier",
    "naming_size",
    "pool",
    "probe",
    "read_checkpoint",
    "set_head",
    "split_batch_norms",
    "undone_on_error",
    "without_head",
]
