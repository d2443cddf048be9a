"""Results as JSON that is whole or absent, and as a table on the screen."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mgd_ssl.files import write_text

PACKAGES = ("mgd_ssl", "torch", "torchvision", "faiss-cpu", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure depends on, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # a source tree on the path, or another build of faiss
    return found


def write_json(path: str | Path, result: Mapping[str, Any]) -> Path:
    """Write a result with the ``versions`` that made it, under a temporary name first.

    Args:
        path: of the file; its folder is made where missing.
        result: figures with their protocol and settings: plain values, lists and dicts; paths
            are written as text.

    Returns:
        The path.

    Raises:
        ValueError: a figure is not finite, or a value is of another type.
        WriteError: the file cannot be written; what stood there before still stands.
    """
    path = Path(path)
    stamped = {**result, "versions": versions()}
    try:
        text = json.dumps(stamped, indent=2, allow_nan=False, default=_as_text)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"result for {path}: {error}; expected finite figures and plain values"
        ) from error
    write_text(path, f"{text}\n")
    return path


def read_result(path: Path) -> dict[str, Any]:
    """What `write_json` wrote of a measurement; empty where the file holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(content, dict) and isinstance(content.get("protocol"), str)
    return content if known else {}


def difference(path: Path, result: Mapping[str, Any], names: Iterable[str] = ()) -> str:
    """Why a result must not be written over a file; empty where it may.

    Args:
        path: of the file; one that is not there, or empty, is written over.
        result: protocol and settings of the new result.
        names: of what must be equal where both have it. [all]
    """
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return ""
    earlier = read_result(path)
    if not earlier:
        return "no result of this project"
    for name in [name for name in names or result if name in earlier]:
        old, new = (_comparable(name, content.get(name)) for content in (earlier, result))
        if old != new:
            return f"a result of another measurement ({name} {old}, now {new})"
    return ""


def _comparable(name: str, value: object) -> str:
    if name in ("data", "checkpoint"):  # however their place was written
        return os.path.realpath(str(value))
    return json.dumps(value, sort_keys=True, default=_as_text)


def _as_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no plain value")


def print_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> None:
    """Print rows under the keys they have, each key a column, settings beneath.

    Args:
        title: above the table.
        rows: a dict a row; a key that a row lacks leaves its cell empty.
        settings: protocol and settings that hold for every row.
        console: where to; the screen by default.
    """
    caption = ", ".join(f"{name} {format_value(value)}" for name, value in (settings or {}).items())
    table = Table(title=Text(title), title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(format_value(row[c]) if c in row else "") for c in columns))
    console = console or Console(markup=False)  # a file's name is no markup
    console.print(table)
    if caption:
        console.print(caption, style="dim", highlight=False, markup=False)


def format_value(value: object) -> str:
    """A float with two places, or three figures where it is under 1; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 1 else f"{value:.2f}"
