"""Object detection, on the core that it imports and that never imports it."""

from typing import TYPE_CHECKING

from mgd_ssl.lazy import lazy_names

if TYPE_CHECKING:
    from mgd_ssl.detection.checkpoints import load_detector

__all__ = ["load_detector"]

__getattr__ = lazy_names(__name__, {"load_detector": "checkpoints"})
