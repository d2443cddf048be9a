"""Networks, taps and checkpoint layouts; nothing about training."""

from mgd_ssl.models.backbones import (
    BackboneSpec,
    backbone_state,
    create_backbone,
    create_classifier,
    set_head,
    without_head,
)
from mgd_ssl.models.checkpoints import find_backbone, load_backbone, load_classifier
from mgd_ssl.models.detector_files import is_detector, load_body, load_detector
from mgd_ssl.models.detector_reader import BodyReader, body_reader
from mgd_ssl.models.detectors import DetectorSpec, create_detector, freeze_stem
from mgd_ssl.models.dict_backbones import DictBackbone, returns_dict
from mgd_ssl.models.filling import KeyReport, check_values
from mgd_ssl.models.modes import evaluating, keeping_buffers, whole_or_not
from mgd_ssl.models.normalisation import IMAGENET_MEAN, IMAGENET_STD, split_batch_norms
from mgd_ssl.models.tap_finder import TappedNetwork, find_reader, find_taps
from mgd_ssl.models.taps import ContractReader, FeatureReader, Tap, Taps, naming_size, probe
from mgd_ssl.models.weights import find_checkpoint, read_checkpoint

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "BackboneSpec",
    "BodyReader",
    "ContractReader",
    "DetectorSpec",
    "DictBackbone",
    "FeatureReader",
    "KeyReport",
    "Tap",
    "TappedNetwork",
    "Taps",
    "backbone_state",
    "body_reader",
    "check_values",
    "create_backbone",
    "create_classifier",
    "create_detector",
    "evaluating",
    "find_backbone",
    "find_checkpoint",
    "find_reader",
    "find_taps",
    "freeze_stem",
    "is_detector",
    "keeping_buffers",
    "load_backbone",
    "load_body",
    "load_classifier",
    "load_detector",
    "naming_size",
    "probe",
    "read_checkpoint",
    "returns_dict",
    "set_head",
    "split_batch_norms",
    "whole_or_not",
    "without_head",
]
