"""Image files to RGB of 8 bits, whatever they hold."""

import numpy as np
from PIL import Image


def decode(path: str) -> Image.Image:
    """Decode the file at ``path`` to an 8-bit RGB image.

    Greyscale is repeated to three channels; transparency is dropped, not composited, and the EXIF
    orientation is ignored, both as torchvision's ``ImageFolder`` does; 16-bit greyscale is scaled
    to 8 bits (Pillow's own conversion clips it at 255).

    Raises:
        Exception: whatever the decoder raises on a file that is truncated or no image.
    """
    with open(path, "rb") as file:
        image = Image.open(file)
        image.load()
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any Pillow mode to 8-bit RGB."""
    if image.mode.startswith("I"):  # 65535 = 255 * 257, so white stays white
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when the palette's transparency is bytes
    return image.convert("RGB")
