"""Images, with or without boxes: sources, decoding, order, views."""

from mgd_ssl.data.bad_files import DecodeError, DecodeGuard
from mgd_ssl.data.coco_files import CocoSource, UnannotatedSource, open_detection
from mgd_ssl.data.cropping import CentreCrop, RandomCrops
from mgd_ssl.data.detection import (
    DetectionBatch,
    DetectionDataset,
    DetectionLoader,
    DetectionSource,
    check_same_categories,
    make_detection_loader,
    subset_detection,
)
from mgd_ssl.data.flips import flip_boxes, flip_randomly
from mgd_ssl.data.fractions import label_fraction
from mgd_ssl.data.generated import GeneratedSource, generate_scene, write_coco
from mgd_ssl.data.identity import data_digest
from mgd_ssl.data.loading import (
    Batch,
    ImageDataset,
    ImageLoader,
    Sample,
    make_loader,
    shorter_side,
)
from mgd_ssl.data.opening import open_source
from mgd_ssl.data.sampling import ResumableBatchSampler
from mgd_ssl.data.sources import (
    ArraySource,
    FolderSource,
    ImageSource,
    NoValidationError,
    split_off,
    subset,
)
from mgd_ssl.data.summary import data_line
from mgd_ssl.data.views import (
    PRESETS,
    EvalTransform,
    Normalize,
    ViewConfig,
    build_view,
    eval_transform,
)
from mgd_ssl.data.workers import decoding_workers
from mgd_ssl.models import IMAGENET_MEAN, IMAGENET_STD

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRESETS",
    "ArraySource",
    "Batch",
    "CentreCrop",
    "CocoSource",
    "DecodeError",
    "DecodeGuard",
    "DetectionBatch",
    "DetectionDataset",
    "DetectionLoader",
    "DetectionSource",
    "EvalTransform",
    "FolderSource",
    "GeneratedSource",
    "ImageDataset",
    "ImageLoader",
    "ImageSource",
    "NoValidationError",
    "Normalize",
    "RandomCrops",
    "ResumableBatchSampler",
    "Sample",
    "UnannotatedSource",
    "ViewConfig",
    "build_view",
    "check_same_categories",
    "data_digest",
    "data_line",
    "decoding_workers",
    "eval_transform",
    "flip_boxes",
    "flip_randomly",
    "generate_scene",
    "label_fraction",
    "make_detection_loader",
    "make_loader",
    "open_detection",
    "open_source",
    "shorter_side",
    "split_off",
    "subset",
    "subset_detection",
    "write_coco",
]
