"""Validation images that are also training images: how many, and which."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from mgd_ssl.data import ImageSource, data_line, decoding_workers, open_sources
from mgd_ssl.data.duplicates import BITS, Duplicates, Pair, find_duplicates
from mgd_ssl.data.formats import printable
from mgd_ssl.files import write_text
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.duplicates import DuplicatesConfig
from mgd_ssl.training.logging import logger, start_logging

MOST_NAMED = 10
COLUMNS = ("validation", "training", "bits")


def run(config: DuplicatesConfig) -> None:
    """Count, say the first of them, and write the table where one is wanted.

    Raises:
        ValueError: the data has no validation images, or the table cannot be written, or would be
            written over something else.
    """
    start_logging()
    if config.out:
        _check_out(config.out, config.data)
    val, train = (open_sources(config.data, split, **config.opening) for split in ("val", "train"))
    logger.info("%s", data_line({"training": train, "validation": val}))
    found = find_duplicates(val, train, config.near, max(decoding_workers(config.workers), 1))
    _say(found, val, train, config.near)
    if config.out:
        write_text(config.out, _table([*found.exact, *found.near], val, train))
        logger.info("written: %s", config.out)


def _check_out(out: Path, data: Sequence[Path]) -> None:
    """Refuse to write over the images' own list, or over what this command did not write."""
    if out.resolve() in [path.resolve() for path in data]:
        raise ValueError(
            f"out: got {out}, which is DATA itself; expected a file of its own. Name another with "
            "--out"
        )
    check_output_files([out], lambda: _is_table(out))


def _is_table(path: Path) -> bool:
    start = f"{','.join(COLUMNS)}\n".encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _say(found: Duplicates, val: ImageSource, train: ImageSource, near: int) -> None:
    parts = [
        f"{len(found.exact):,} of {len(val):,} validation images are training images too, by their "
        "content"
    ]
    if near >= 0:
        parts.append(
            f"{len(found.near):,} others look like one (at most {near} of {BITS} bits differ)"
        )
    if found.unreadable:
        parts.append(f"{found.unreadable:,} images cannot be decoded and were not compared")
    logger.info("%s", "; ".join(parts))
    for pair in [*found.exact[:MOST_NAMED], *found.near[:MOST_NAMED]]:
        how = "is" if pair.distance < 0 else f"looks like ({pair.distance} bits)"
        places = val.describe(pair.index), train.describe(pair.other)
        logger.info("%s %s %s", printable(places[0]), how, printable(places[1]))


def _table(pairs: Iterable[Pair], val: ImageSource, train: ImageSource) -> str:
    """The pairs as CSV: both places, and the bits that differ, empty where the content is one."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for pair in pairs:
        bits = "" if pair.distance < 0 else pair.distance
        rows.writerow([val.describe(pair.index), train.describe(pair.other), bits])
    return text.getvalue()
