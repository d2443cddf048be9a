"""Image files, opened and decoded by their paths."""

from pathlib import Path
from typing import Any

from PIL import Image

from mgd_ssl.data.decoding import Picture, open_encoded


def open_picture(path: str, **options: Any) -> Picture:
    return open_encoded(Path(path).read_bytes(), **options)


def decode(path: str, **options: Any) -> Image.Image:
    return open_picture(path, **options).load()
