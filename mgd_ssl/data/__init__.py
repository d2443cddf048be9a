"""Images: sources, decoding, order, views."""

from mgd_ssl.data.bad_files import DecodeError, DecodeGuard
from mgd_ssl.data.loading import (
    Batch,
    CanvasDataset,
    CanvasLoader,
    Sample,
    canvas_size,
    make_loader,
)
from mgd_ssl.data.sampling import ResumableBatchSampler
from mgd_ssl.data.sources import ArraySource, FolderSource, ImageSource, open_source, subset
from mgd_ssl.data.views import (
    PRESETS,
    EvalTransform,
    Normalize,
    ViewConfig,
    build_view,
    eval_transform,
)
from mgd_ssl.models import IMAGENET_MEAN, IMAGENET_STD

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRESETS",
    "ArraySource",
    "Batch",
    "CanvasDataset",
    "CanvasLoader",
    "DecodeError",
    "DecodeGuard",
    "EvalTransform",
    "FolderSource",
    "ImageSource",
    "Normalize",
    "ResumableBatchSampler",
    "Sample",
    "ViewConfig",
    "build_view",
    "canvas_size",
    "eval_transform",
    "make_loader",
    "open_source",
    "subset",
]
