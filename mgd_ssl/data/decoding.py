"""Image files to upright RGB of 8 bits, whatever they hold."""

import io
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from mgd_ssl.data.formats import open_image

TIFF_BITS = 258  # the tag BitsPerSample
SIXTEEN_BITS = (PngImageFile, PpmImageFile)  # of mode I, which is of 32 bits elsewhere
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


def open_encoded(data: bytes, *, exif: bool = True, max_pixels: int | None = None) -> Picture:
    """Open an image file by its content; what is loaded of it is upright 8-bit RGB.

    Grayscale is repeated to three channels; transparency is dropped, not composited, as
    torchvision's ``ImageFolder`` does; 16-bit grayscale is scaled to 8 bits (Pillow's own
    conversion clips it at 255).

    Args:
        data: the image file.
        exif: turn and mirror the image as its EXIF orientation says; False leaves it as it is
            stored, as torchvision's ``ImageFolder`` does. (A TIFF is turned by Pillow itself.)
        max_pixels: width times height at most; None for Pillow's limit of 89,478,485.

    Raises:
        ValueError: an empty file, or more pixels than allowed.
        Exception: whatever the decoder raises on a file that is truncated or no image.
    """
    image = open_image(io.BytesIO(data), max_pixels)
    if not isinstance(image, JpegImageFile):  # a PNG may hold its EXIF behind the pixels
        image.load()
    return Picture(image, image.size, _turn(image) if exif else None)


def _turn(image: Image.Image) -> Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises anything on damaged EXIF, and the pixels may be sound
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any Pillow mode to 8-bit RGB.

    Raises:
        ValueError: values of 32 bits, whose white nobody knows.
    """
    if image.mode == "F" or (image.mode == "I" and not isinstance(image, SIXTEEN_BITS)):
        kind = "float" if image.mode == "F" else "or signed integer"
        raise ValueError(f"32-bit {kind} values; expected 8 or 16 bits without sign")
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    elif image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = cast(Image.Image, ImageCms.profileToProfile(image, *profiles, outputMode="RGB"))
    elif image.mode == "La":  # Pillow goes no further than LA
        image = image.convert("LA")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when the palette's transparency is bytes
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale gray values so that white stays white: 65535 = 255 * 257."""
    white = 4095 if _stored_bits(image) == 12 else 65535
    values = np.clip(np.asarray(image, dtype=np.int64), 0, white)
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _stored_bits(image: Image.Image) -> int:
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    bits = tags.get(TIFF_BITS, (16,))
    return int(bits[0] if isinstance(bits, tuple) else bits)
