"""Which files are opened, and what is said of those that are not."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import photo, save, text_named_jpg, truncate
from picture_files import decode
from PIL import Image

from mgd_ssl.data.bad_files import reason_undecodable
from mgd_ssl.data.decoding import to_rgb
from mgd_ssl.data.folder_source import FolderSource
from mgd_ssl.data.formats import explain, extensions

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "DIB",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pnm": "PPM",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".avif": "AVIF",
    ".tga": "TGA",
    ".pcx": "PCX",
}


@pytest.mark.parametrize("extension", FORMATS)
def test_raster_formats_are_read(tmp_path: Path, extension: str) -> None:
    assert extension in extensions()
    path = tmp_path / f"x{extension}"
    Image.fromarray(photo()).save(path, format=FORMATS[extension])
    found = decode(str(path))
    off = np.abs(np.asarray(found).astype(int) - photo().astype(int)).mean()
    assert found.mode == "RGB" and found.size == (48, 40) and off < 16  # a GIF has 256 colors


def test_formats_that_run_other_programs_are_not_opened_under_any_name(tmp_path: Path) -> None:
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf"} & set(extensions())
    Image.fromarray(photo()).save(tmp_path / "x.jpg", format="EPS")
    with pytest.raises(OSError, match="cannot identify"):
        decode(str(tmp_path / "x.jpg"))


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for name in ("x.gif", "x.webp", "x.apng", "x.tiff"):
        kind = "PNG" if name.endswith("apng") else None
        frames[0].save(tmp_path / name, format=kind, save_all=True, append_images=frames[1:])
        red, green, blue = decode(str(tmp_path / name)).getpixel((3, 3))  # type: ignore[misc]
        assert red > 240 and green < 10 and blue < 10


# values


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.fromarray(np.full((4, 4), 0.5, np.float32)), "32-bit float values; expected 8"),
        (Image.fromarray(np.full((4, 4), 200, np.int32)), "32-bit or signed integer values"),
    ],
)
def test_values_of_unknown_range_are_refused_and_not_turned_black(
    tmp_path: Path, image: Image.Image, said: str
) -> None:
    image.save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=said):
        decode(str(tmp_path / "x.tif"))


@pytest.mark.parametrize("most", [100, 255, 1000, 65535])
def test_a_gray_map_is_scaled_by_its_own_white(tmp_path: Path, most: int) -> None:
    values = np.array([0, most // 4, most], ">u2" if most > 255 else "u1")
    (tmp_path / "x.pgm").write_bytes(b"P5 3 1 %d\n" % most + values.tobytes())
    found = np.asarray(decode(str(tmp_path / "x.pgm")))[0, :, 0]
    np.testing.assert_allclose(found, values / most * 255, atol=0.51)


def test_colors_of_sixteen_bits_keep_their_upper_byte(tmp_path: Path) -> None:
    values = np.array([0, 30000, 65535], ">u2")
    (tmp_path / "x.ppm").write_bytes(b"P6 1 1 65535\n" + values.tobytes())
    assert decode(str(tmp_path / "x.ppm")).getpixel((0, 0)) == (0, 117, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_other_modes_agree_with_pillows_conversion(mode: str) -> None:
    image = Image.fromarray(photo()).convert("P" if mode == "PA" else "RGB").convert(mode)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))


def test_lab_is_converted_by_its_definition(tmp_path: Path) -> None:
    """CIE L*a*b* 53.59, 0, 0 is the gray of sRGB 128: Y = ((L + 16) / 116)³ = 0.2159."""
    lab = Image.new("LAB", (2, 2), (round(53.59 * 2.55), 128, 128))
    lab.save(tmp_path / "x.tif")
    found = decode(str(tmp_path / "x.tif")).getpixel((0, 0))
    np.testing.assert_allclose(found, (128, 128, 128), atol=2)


# the limit of pixels


def test_more_pixels_than_allowed_are_refused_in_a_line_that_says_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgd_ssl.data.formats.PILLOW_LIMIT", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # Pillow would warn, or refuse
    path = str(save(tmp_path / "large.png", photo()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"48x40, more than 1,000.*--max-pixels 1920"):
            decode(path)
        assert decode(path, max_pixels=1920).size == (48, 40)
    assert Image.MAX_IMAGE_PIXELS == 700


def test_a_thread_that_is_done_leaves_the_limit_away_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # of 1,920 pixels Pillow refuses the image
    path = str(save(tmp_path / "large.png", photo()))
    pillows, numbers = Image.open, count()
    entered, left = [threading.Event(), threading.Event()], threading.Event()

    def open_in_turn(*args: Any, **options: Any) -> Image.Image:
        """The first goes on once the second is inside, and the second once the first has left."""
        number = next(numbers)
        entered[number].set()
        assert (left if number else entered[1]).wait(10)
        return pillows(*args, **options)

    monkeypatch.setattr(Image, "open", open_in_turn)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(decode, path, max_pixels=1920)
        assert entered[0].wait(10)
        second = pool.submit(decode, path, max_pixels=1920)
        assert first.result().size == (48, 40)
        left.set()
        assert second.result().size == (48, 40)
    assert Image.MAX_IMAGE_PIXELS == 700


# reasons


def test_reasons_tell_kinds_of_failure_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    text_named_jpg(tmp_path / "text.jpg")
    truncate(save(tmp_path / "cut.png", photo(height=200, width=200)))
    names = ["empty.png", "text.jpg", "cut.png", "gone.png"]
    source = FolderSource(tmp_path, names)
    said = [reason_undecodable(source, index) for index in range(len(names))]
    assert said[:2] == ["empty file", "no image of a known format"]
    assert said[2].startswith("damaged: ") and "truncated" in said[2]
    assert said[3] == "the file is gone"
    assert explain(PermissionError(13, "x")) == "permission denied"
    assert explain(KeyError("x")) == "KeyError: 'x'"
    assert "\n" not in explain(OSError("two\nlines"))


def test_a_file_that_can_be_read_again_says_so(tmp_path: Path) -> None:
    save(tmp_path / "x.png", photo())
    assert reason_undecodable(FolderSource(tmp_path, ["x.png"]), 0).startswith("readable now")
