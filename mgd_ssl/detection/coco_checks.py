"""Checks of every entry of COCO's instances files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST_ID = 2**63 - 1  # ids are kept as int64
LARGEST_NUMBER = 1e9  # pixels, far beyond any image, and exact in float64
SECTIONS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
Entries = dict[str, list[dict[str, Any]]]


def load_sections(file: Path) -> Entries:
    """Read the three lists of an annotation file and check every entry.

    Raises:
        ValueError: the JSON is broken, a list is missing, or an entry is missing or malformed.
    """
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: {error}; expected COCO's JSON. Write or fetch the file again."
        ) from error
    for section, keys in SECTIONS.items():
        entries = data.get(section) if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise ValueError(
                f'{file}: no list "{section}"; expected the lists {", ".join(SECTIONS)} of '
                "COCO's instances files. Name or write a file of that format."
            )
        for number, entry in enumerate(entries):
            wrong = _what_is_wrong(entry, keys)
            if wrong:
                raise ValueError(f"{file}: {section}[{number}] {wrong}. Correct the file.")
    checked: Entries = data
    return checked


def is_crowd(entry: dict[str, Any]) -> bool:
    """Whether an annotation marks a region of many objects; some converters write "1"."""
    return entry.get("iscrowd") in (1, "1")


def _what_is_wrong(entry: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(entry, dict):
        return f"is {type(entry).__name__}, no object of keys and values"
    for key in keys:
        if key not in entry:
            return f'has no "{key}"; expected {", ".join(keys)}'
    for key in (*keys, "area", "iscrowd"):
        right, expected = CHECKS[key]
        if key in entry and not right(entry[key]):
            shown = repr(entry[key])
            shown = f"{shown[:60]}…" if len(shown) > 61 else shown
            return f'has "{key}" {shown}; expected {expected}'
    return ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST_ID


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_NUMBER


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_area(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= LARGEST_NUMBER**2)


def _is_flag(value: Any) -> bool:
    return value is None or (type(value) in (int, bool, str) and value in (0, 1, "0", "1"))


def _is_path_below(value: Any) -> bool:
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half a character
        return False
    return not os.path.isabs(value) and ".." not in value.split(os.sep)


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_id, "a whole number"),
    "image_id": (_is_id, "the id of an image, a whole number"),
    "category_id": (_is_id, "the id of a category, a whole number"),
    "file_name": (_is_path_below, "a path that stays below the folder of images"),
    "width": (_is_side, "pixels, a whole number of 1 or more"),
    "height": (_is_side, "pixels, a whole number of 1 or more"),
    "bbox": (_is_box, "four finite numbers: x, y, width, height"),
    "name": (lambda value: isinstance(value, str), "text"),
    "area": (_is_area, "a finite number of 0 or more"),
    "iscrowd": (_is_flag, "0 or 1"),
}
