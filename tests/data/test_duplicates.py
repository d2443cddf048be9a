"""Duplicates are found by content, near ones by what they look like."""

import io
from pathlib import Path

import numpy as np
import pytest
from archive_files import png, write_tar
from image_files import photo, save, text_named_jpg
from PIL import Image

from mgd_ssl.commands import duplicates
from mgd_ssl.data import ArraySource, open_source
from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.duplicates import Pair, cells_of, find_duplicates, look


def picture(seed: int, side: int = 120) -> Image.Image:
    """A smooth picture with some detail: 10×10 random cells."""
    cells = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def look_of(image: Image.Image) -> np.ndarray:
    return look(cells_of(Picture.of(image.convert("RGB"))))


def bits(first: Image.Image, second: Image.Image) -> int:
    looks = [look_of(image) for image in (first, second)]
    return int(np.unpackbits(looks[0] ^ looks[1]).sum())


def test_the_look_compares_cells_with_those_to_the_right_and_below() -> None:
    ramp = np.tile(np.arange(0, 90, 10, dtype=np.uint8), (9, 1))
    right = np.unpackbits(look_of(Image.fromarray(ramp)))
    assert right.tolist() == [1] * 64 + [0] * 64
    down = np.unpackbits(look_of(Image.fromarray(ramp.T.copy())))
    assert down.tolist() == [0] * 64 + [1] * 64


def test_the_same_picture_in_another_form_looks_alike_and_others_do_not() -> None:
    for seed in range(5):
        image = picture(seed)
        others = [
            jpeg(image, 50),
            image.resize((60, 60), Image.Resampling.BICUBIC),
            image.convert("L"),
            image.point(lambda value: round(value * 0.8)),
        ]
        assert all(bits(image, other) <= 8 for other in others)
        assert bits(image, picture(seed + 10)) > 30
        assert bits(image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of five validation images one is a training image, one looks like one."""
    for i in range(6):
        save(tmp_path / "train" / "a" / f"{i}.png", picture(i))
    text_named_jpg(tmp_path / "train" / "a" / "9.jpg")
    (tmp_path / "val" / "a").mkdir(parents=True)
    copy = (tmp_path / "train" / "a" / "3.png").read_bytes()
    (tmp_path / "val" / "a" / "0.png").write_bytes(copy)
    jpeg(picture(5), 60).save(tmp_path / "val" / "a" / "1.png")
    for i in (2, 3):
        save(tmp_path / "val" / "a" / f"{i}.png", picture(20 + i))
    text_named_jpg(tmp_path / "val" / "a" / "4.jpg")  # like the one of training, and no image
    return tmp_path


def test_exact_and_near_duplicates_are_told_apart(folder: Path) -> None:
    val, train = (open_source(folder, split) for split in ("val", "train"))  # type: ignore[arg-type]
    for workers in (1, 3):
        found = find_duplicates(val, train, workers=workers)
        assert found.exact == [Pair(0, 3, -1)]
        assert [(pair.index, pair.other) for pair in found.near] == [(1, 5)]
        assert 0 <= found.near[0].distance <= 8 and found.unreadable == 2
    assert find_duplicates(val, train, near=-1).near == []


def test_the_nearest_is_the_one_that_comparing_all_pairs_finds() -> None:
    mine, theirs = (
        ArraySource(np.stack([photo(seed) for seed in range(first, first + 20)]))
        for first in (0, 15)
    )
    found = find_duplicates(mine, theirs, near=127)
    assert found.exact == [Pair(15 + i, i, -1) for i in range(5)]
    for pair in found.near:
        distances = [bits(mine.read(pair.index), theirs.read(other)) for other in range(20)]
        assert pair.distance == min(distances) == distances[pair.other]
    assert len(found.near) == 15


def test_flat_pictures_of_other_brightness_are_no_duplicates() -> None:
    """They have the same look, of no bits; a copy is found behind many of that look."""
    levels = np.arange(0, 250, 25, dtype=np.uint8)
    mine, theirs = (
        ArraySource(np.broadcast_to(v[:, None, None, None], (len(v), 40, 40, 3)).copy())
        for v in (levels + 12, np.append(levels, np.uint8(38)))
    )
    assert find_duplicates(mine, theirs).near == [Pair(1, 10, 0)]


def test_images_in_shards_are_compared_with_those_of_folders(folder: Path) -> None:
    write_tar(folder / "shards" / "0.tar", [("0.png", png(photo())), ("1.png", (folder / "train" / "a" / "2.png").read_bytes())])  # noqa: E501  # fmt: skip
    shards, train = open_source(folder / "shards", "train"), open_source(folder / "train", "train")
    assert find_duplicates(shards, train).exact == [Pair(1, 2, -1)]


@pytest.mark.parametrize("near", [-2, 128])
def test_a_number_of_bits_out_of_range_is_refused(near: int) -> None:
    source = ArraySource(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected -1 to 127 bits of 128"):
        find_duplicates(source, source, near)


def test_the_command_says_the_counts_and_writes_the_pairs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "pairs.csv"
    assert duplicates.main([str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "1 of 5 validation images are training images too, by their content" in said
    assert "1 others look like one (at most 8 of 128 bits differ)" in said
    assert "2 images cannot be decoded and were not compared" in said
    assert f"{folder}/val/a/0.png is {folder}/train/a/3.png" in said
    rows = [line.split(",") for line in out.read_text().splitlines()]
    assert rows[0] == ["validation", "training", "bits"] and len(rows) == 3
    assert rows[1] == [f"{folder}/val/a/0.png", f"{folder}/train/a/3.png", ""]
    assert rows[2][:2] == [f"{folder}/val/a/1.png", f"{folder}/train/a/5.png"]


@pytest.mark.parametrize("held", ["data", "a link to it", "notes"])
def test_the_pairs_are_not_written_over_a_list_of_images_or_notes(
    folder: Path, capsys: pytest.CaptureFixture[str], held: str
) -> None:
    data, notes, link = (folder / name for name in ("train.csv", "notes.csv", "link.csv"))
    data.write_text("validation,training,bits\ntrain/a/0.png,0,0\n")  # starts as pairs do
    data.with_name("val.csv").write_text("val/a/0.png,0\n")
    notes.write_text("mine\n")
    link.symlink_to(data)
    out = {"data": data, "a link to it": link, "notes": notes}[held]
    before = out.read_bytes()
    assert duplicates.main([str(data), "--out", str(out)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    why = "holds a file that this command did not write" if held == "notes" else "is DATA itself"
    assert f"out: {'' if held == 'notes' else 'got '}{out}" in said and why in said
    assert "with --out" in said and out.read_bytes() == before


def test_the_pairs_are_written_again_over_those_of_the_same_command(folder: Path) -> None:
    out = folder / "pairs.csv"
    out.touch()  # as mktemp leaves it
    assert duplicates.main([str(folder), "--out", str(out), "--near", "-1"]) == 0
    before = out.read_text()
    assert duplicates.main([str(folder), "--out", str(out)]) == 0
    assert before in out.read_text() and len(out.read_text()) > len(before)
