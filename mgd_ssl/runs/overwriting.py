"""Files that --out names: refused before the work where they are somebody else's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgd_ssl.evaluation.results import difference, read_result
from mgd_ssl.files import require_writable

IDENTITY = ("protocol", "checkpoint", "data")  # a result is another's where one of them differs


def check_result_file(out: Path, result: Mapping[str, Any], *, picture: bool = False) -> None:
    """Refuse to write a result over one of another measurement, or over anything else.

    Args:
        out: JSON file that ``--out`` names.
        result: protocol and settings of the new result.
        picture: whether a PNG of the same name is drawn too.

    Raises:
        ValueError: says what is there, or that the place cannot be written to.
    """
    require_writable(out)
    held = difference(out, result, IDENTITY)
    if picture and not held and has_other_picture(out):
        out, held = out.with_suffix(".png"), "a picture that came with no result there"
    if held:
        raise ValueError(
            f"out: {out} holds {held}, which is not written over; name another file with --out, or "
            "move that away"
        )


def has_other_picture(result: Path) -> bool:
    """Whether there is a PNG beside a result that the result did not come with."""
    return result.with_suffix(".png").exists() and "retrieval" not in read_result(result)


def check_output_files(paths: Sequence[Path], is_own: Callable[[], bool]) -> None:
    """Refuse to write over files that the same command did not write.

    Args:
        paths: all files that the command writes.
        is_own: whether those that are there are its own; asked only where one is there.

    Raises:
        ValueError: names the file, or says that the place cannot be written to.
    """
    for path in paths:
        require_writable(path)
    there = [path for path in paths if path.exists() and path.stat().st_size]
    if there and not is_own():
        raise ValueError(
            f"out: {there[0]} is there already and was not written by this command; name another "
            "file with --out, or move that away"
        )
