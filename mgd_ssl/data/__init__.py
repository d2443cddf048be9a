"""Images, with or without boxes: sources, decoding, order, views."""

from mgd_ssl.data.bad_files import DecodeError, DecodeGuard
from mgd_ssl.data.batches import Batch, Sample
from mgd_ssl.data.concat import ConcatSource, open_sources
from mgd_ssl.data.cropping import CenterCrop, Cropping, RandomCrops, shorter_side
from mgd_ssl.data.datasets import ImageDataset, Store
from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.identity import data_digest
from mgd_ssl.data.loading import ImageLoader, make_loader
from mgd_ssl.data.opening import open_source
from mgd_ssl.data.sampling import ResumableBatchSampler
from mgd_ssl.data.sources import ArraySource, ImageSource, NoValidationError
from mgd_ssl.data.stored_views import StoredViews
from mgd_ssl.data.subsets import split_off, spread_out, subset
from mgd_ssl.data.summary import data_line
from mgd_ssl.data.views import (
    EvalTransform,
    Normalize,
    Shrink,
    View,
    eval_transform,
    random_crops,
)
from mgd_ssl.data.workers import decoding_workers

__all__ = [
    "ArraySource",
    "Batch",
    "CenterCrop",
    "ConcatSource",
    "Cropping",
    "DecodeError",
    "DecodeGuard",
    "EvalTransform",
    "FolderSource",
    "ImageDataset",
    "ImageLoader",
    "ImageSource",
    "NoValidationError",
    "Normalize",
    "RandomCrops",
    "ResumableBatchSampler",
    "Sample",
    "Shrink",
    "Store",
    "StoredViews",
    "View",
    "data_digest",
    "data_line",
    "decoding_workers",
    "eval_transform",
    "make_loader",
    "open_source",
    "open_sources",
    "random_crops",
    "shorter_side",
    "split_off",
    "spread_out",
    "subset",
]
