"""Image files to upright RGB of 8 bits, whatever they hold."""

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

Transpose = Image.Transpose
TURNS = {  # EXIF orientation -> what makes the image upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SIDEWAYS = (Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)


@dataclass(frozen=True)
class Picture:
    """An image that is opened; the pixels of a JPEG are not decoded yet.

    Attributes:
        image: Pillow's image.
        stored: width and height as the file stores them.
        turn: what makes it upright, None for nothing.
    """

    image: Image.Image
    stored: tuple[int, int]
    turn: Transpose | None = None

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        """An image that is decoded and upright."""
        return cls(image, image.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the whole image, upright."""
        width, height = self.stored
        return (height, width) if self.turn in SIDEWAYS else (width, height)

    def reduce(self, most: float) -> int:
        """Let a JPEG be decoded smaller, which costs less; call it before :meth:`load`.

        Args:
            most: largest divisor of the sides that leaves enough of the image.

        Returns:
            The divisor: 8, 4, 2, or 1, which leaves the image as it is.
        """
        width, height = self.stored
        if isinstance(self.image, JpegImageFile):
            for divisor in (8, 4, 2):
                if divisor <= min(most, width, height):
                    self.image.draft(None, (width // divisor, height // divisor))
                    return divisor
        return 1

    def load(self) -> Image.Image:
        """The pixels: 8-bit RGB, upright.

        Raises:
            Exception: whatever the decoder raises on a file that is truncated.
        """
        self.image.load()
        image = to_rgb(self.image)
        return image if self.turn is None else image.transpose(self.turn)


def open_picture(path: str, *, exif: bool = True) -> Picture:
    """Open the image file at ``path``.

    Args:
        path: of the file.
        exif: turn and mirror the image as its EXIF orientation says; False leaves it as it is
            stored, as torchvision's ``ImageFolder`` does. (A TIFF is turned by Pillow itself.)

    Raises:
        Exception: whatever the decoder raises on a file that is truncated or no image.
    """
    with open(path, "rb") as file:
        image = Image.open(io.BytesIO(file.read()))
    if not isinstance(image, JpegImageFile):  # a PNG may hold its EXIF behind the pixels
        image.load()
    return Picture(image, image.size, _turn(image) if exif else None)


def _turn(image: Image.Image) -> Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises anything on damaged EXIF, and the pixels may be sound
        return None


def decode(path: str, *, exif: bool = True) -> Image.Image:
    """Decode the file at ``path`` to an upright 8-bit RGB image; see :func:`open_picture`.

    Greyscale is repeated to three channels; transparency is dropped, not composited, as
    torchvision's ``ImageFolder`` does; 16-bit greyscale is scaled to 8 bits (Pillow's own
    conversion clips it at 255).

    Raises:
        Exception: whatever the decoder raises on a file that is truncated or no image.
    """
    return open_picture(path, exif=exif).load()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any Pillow mode to 8-bit RGB."""
    if image.mode.startswith("I"):  # 65535 = 255 * 257, so white stays white
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when the palette's transparency is bytes
    return image.convert("RGB")
