"""Results as JSON files, written whole or not at all, and as tables on the screen."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from mgd_ssl.files import write_text
from mgd_ssl.screen import print_rows

PACKAGES = ("mgd_ssl", "torch", "torchvision", "faiss-cpu", "numpy")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those packages that are installed; by default, of PACKAGES."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # a source tree on the path, or another build of faiss
    return found


def write_json(path: str | Path, result: Mapping[str, Any]) -> Path:
    """Write a result and the ``versions`` that computed it, whole or not at all.

    Args:
        path: of the file; a missing folder is created.
        result: figures with their protocol and settings: plain values, lists and dicts; paths
            are written as text.

    Returns:
        The path.

    Raises:
        ValueError: a figure is not finite, or a value is of another type.
        WriteError: the file cannot be written; an earlier one is unchanged.
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


def _as_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a plain value")


def print_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> None:
    """Print rows as a table with a column for each key, and settings beneath it.

    Args:
        title: above the table.
        rows: a dict for each row; a cell is empty if the row lacks the key.
        settings: protocol and settings of all rows.
        console: the screen by default.
    """
    console = console or Console(markup=False)  # names of files are not markup
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[format_value(row[c]) if c in row else "" for c in columns] for row in rows]
    numeric = [all(isinstance(row.get(c, 0), int | float) for row in rows) for c in columns]
    # a path stays in one piece
    console.print(title, soft_wrap=True, highlight=False, markup=False)
    print_rows(columns, cells, numeric, console)
    if settings:
        said = ", ".join(f"{name} {format_value(value)}" for name, value in settings.items())
        console.print(said, style="dim", highlight=False, markup=False)


def format_value(value: object) -> str:
    """Floats with two decimal places, or three digits below 1; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 1 else f"{value:.2f}"
