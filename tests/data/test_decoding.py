import warnings

import numpy as np
import pytest
from image_files import photo, save, text_named_jpg, truncate
from PIL import Image

from mgd_ssl.data.decoding import decode


def test_greyscale_becomes_three_equal_channels(tmp_path):
    grey = photo()[..., 0]
    got = np.asarray(decode(str(save(tmp_path / "g.png", grey))))
    np.testing.assert_array_equal(got, np.stack([grey] * 3, axis=-1))


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
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


def test_palette_gives_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    got = decode(str(save(tmp_path / "p.png", image)))
    assert [got.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]


def test_palette_with_transparent_bytes_gives_its_colours_without_a_warning(tmp_path):
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


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter turn
    Image.fromarray(photo(height=40, width=48)).save(tmp_path / "turned.jpg", exif=exif)
    assert decode(str(tmp_path / "turned.jpg")).size == (48, 40)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg"])
def test_truncated_file_raises(tmp_path, name):
    path = truncate(save(tmp_path / name, photo(height=200, width=200)))
    with pytest.raises(OSError):
        decode(str(path))


def test_text_file_named_jpg_raises(tmp_path):
    with pytest.raises(OSError):
        decode(str(text_named_jpg(tmp_path / "text.jpg")))
