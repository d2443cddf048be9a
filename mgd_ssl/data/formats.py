"""Which image files are read: formats, extensions, the limit of pixels; and why one is not."""

import threading
from functools import cache
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

# Raster formats that Pillow reads by itself: EPS and WMF files run other programs.
RASTER = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("QOI", "PCX", "SGI", "SUN", "TGA"),
)
NO_BYTES = (".pfm",)  # float values, mostly depth beside the images
# Images that need another program or package: never a reason to leave a class out unsaid.
FOREIGN = (
    *(".heic", ".heif", ".psd", ".svg", ".eps", ".pdf", ".exr", ".hdr", ".dcm", ".npy", ".pfm"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".jxl"),
)
LISTS = (".txt", ".lst", ".list", ".csv", ".tsv")  # that name image files
PILLOW_LIMIT = Image.MAX_IMAGE_PIXELS or 89478485


class _Unlimited:
    """Inside, in any thread, Pillow does not check the pixels: it warns without the file's name."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                Image.MAX_IMAGE_PIXELS = self._limit


UNLIMITED = _Unlimited()


@cache
def extensions() -> tuple[str, ...]:
    """Lower-case extensions of the files that are read."""
    formats = {*RASTER, "MPO"}  # MPO is a JPEG of several pictures, the first of which is read
    known = Image.registered_extensions()
    return tuple(e for e, f in sorted(known.items()) if f in formats and e not in NO_BYTES)


def open_image(file: BinaryIO, max_pixels: int | None = None) -> Image.Image:
    """Open an image file of one of the raster formats, whatever its name says.

    Args:
        file: at its start.
        max_pixels: width times height at most; None for Pillow's limit of 89,478,485.

    Raises:
        ValueError: an empty file, or more pixels than allowed.
        Exception: whatever Pillow raises on a file that is damaged or no image.
    """
    if not file.read(1):
        raise ValueError("empty file")
    file.seek(0)
    Image.init()
    with UNLIMITED:
        image = Image.open(file, formats=[name for name in RASTER if name in Image.OPEN])
    limit = max_pixels or PILLOW_LIMIT
    if image.width * image.height > limit:
        raise ValueError(
            f"too many pixels: {image.width}x{image.height}, more than {limit:,}; expected fewer, "
            f"or --max-pixels {image.width * image.height}"
        )
    return image


def printable(name: str) -> str:
    """A file's name in a line: what cannot be printed, half a character among it, is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def explain(error: Exception) -> str:
    """Why an image file cannot be decoded, in a line."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, FileNotFoundError):
        return "the file is gone"
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known format"
    said = " ".join(str(error).split()) or type(error).__name__
    if type(error) is ValueError:  # this package's own
        return said
    return f"damaged: {said}" if isinstance(error, OSError) else f"{type(error).__name__}: {said}"
