import warnings
from pathlib import Path

import numpy as np
import pytest
from image_files import photo, save, text_named_jpg, truncate
from picture_files import decode, open_picture
from PIL import Image, ImageOps


def test_grayscale_becomes_three_equal_channels(tmp_path):
    gray = photo()[..., 0]
    got = np.asarray(decode(str(save(tmp_path / "g.png", gray))))
    np.testing.assert_array_equal(got, np.stack([gray] * 3, axis=-1))


def test_sixteen_bit_gray_is_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 127, 257, 1000], [30000, 40000, 65534, 65535]], dtype=np.uint16)
    path = save(tmp_path / "deep.png", Image.fromarray(values))
    assert Image.open(path).mode.startswith("I")  # the file really has 16 bits
    got = np.asarray(decode(str(path)))[..., 0]
    np.testing.assert_array_equal(got, np.round(values / 65535 * 255))


def test_cmyk_is_converted_by_subtracting_ink(tmp_path):
    ink = np.zeros((4, 4, 4), dtype=np.uint8)
    ink[..., 1] = 255  # full magenta: no green
    path = save(tmp_path / "ink.tif", Image.frombytes("CMYK", (4, 4), ink.tobytes()))
    got = decode(str(path))
    assert got.mode == "RGB" and got.getpixel((0, 0)) == (255, 0, 255)


def test_palette_gives_its_colors(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    got = decode(str(save(tmp_path / "p.png", image)))
    assert [got.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]


def test_palette_with_transparent_bytes_gives_its_colors_without_a_warning(tmp_path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "p.png", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(str(tmp_path / "p.png")).getpixel((0, 0)) == (10, 20, 30)


def test_transparency_is_dropped_and_not_composited(tmp_path):
    rgba = np.dstack([photo(), np.zeros(photo().shape[:2], dtype=np.uint8)])
    got = np.asarray(decode(str(save(tmp_path / "a.png", rgba))))
    np.testing.assert_array_equal(got, photo())


# EXIF orientation


def turned(path: Path, orientation: object, image: np.ndarray | None = None) -> str:
    """A file that says it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo() if image is None else image).save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize("kind", ["jpg", "mpo", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, kind, orientation):
    path = turned(tmp_path / f"a.{kind}", orientation)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode(path)), np.asarray(expected))
    assert open_picture(path).size == expected.size
    stored = Image.open(path).convert("RGB")  # what torchvision's ImageFolder reads
    np.testing.assert_array_equal(np.asarray(decode(path, exif=False)), np.asarray(stored))


def test_orientation_in_xmp_alone_is_applied(tmp_path):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(photo(height=40, width=48)).save(tmp_path / "a.jpg", xmp=xmp)
    assert decode(str(tmp_path / "a.jpg")).size == (40, 48)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0neither byte order",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",  # its directory lies beyond the end
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0\x06\0\0",  # 2^32 values
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02six\0",  # text
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",  # orientation 99
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_damaged_exif_leaves_the_image_readable(tmp_path, kind, exif):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(photo(height=40, width=48)).save(path, exif=exif)
    assert decode(str(path)).size == (48, 40)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(("most", "divisor"), [(1.9, 1), (2, 2), (7.9, 4), (100, 8)])
def test_jpeg_is_decoded_smaller_by_no_more_than_asked(tmp_path, orientation, most, divisor):
    path = turned(tmp_path / "a.jpg", orientation, photo(height=200, width=328))
    picture = open_picture(path)
    width, height = picture.size
    assert picture.reduce(most) == divisor
    got = picture.load()
    assert got.size == (width // divisor, height // divisor)
    expected = decode(path).reduce(divisor)
    difference = np.asarray(got).astype(int) - np.asarray(expected)
    assert np.abs(difference).mean() < 2


def test_picture_of_another_format_or_smaller_than_the_divisor_is_not_reduced(tmp_path):
    assert open_picture(turned(tmp_path / "a.png", 6)).reduce(8) == 1
    thin = open_picture(str(save(tmp_path / "a.jpg", photo(height=3, width=200))))
    assert thin.reduce(8) == 2 and thin.load().size == (100, 2)


# damaged files


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg"])
def test_truncated_file_raises(tmp_path, name):
    path = truncate(save(tmp_path / name, photo(height=200, width=200)))
    with pytest.raises(OSError):
        decode(str(path))


def test_text_file_named_jpg_raises(tmp_path):
    with pytest.raises(OSError):
        decode(str(text_named_jpg(tmp_path / "text.jpg")))
