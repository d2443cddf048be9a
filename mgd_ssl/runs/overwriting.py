"""Which files a command may write over: checked before the work starts."""

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgd_ssl.files import require_writable
from mgd_ssl.settings.run import UnnamedDirectory

CHANGING = ("sha256",)  # the same command, on a checkpoint that has changed, measures it again


def check_output_files(
    paths: Sequence[Path],
    is_own: Callable[[], bool],
    option: str = "--out",
    held: str = "a file that this command did not write",
) -> None:
    """Refuse to write over files that the same command did not write.

    Args:
        paths: all files that the command writes.
        is_own: whether the existing ones are the command's own; called only if there are any.
        option: that names the files.
        held: what is said of a file that is not the command's own.

    Raises:
        ValueError: names the file, or says that it cannot be written.
    """
    for path in paths:
        require_writable(path, option)
    existing = [path for path in paths if path.exists() and path.stat().st_size]
    if existing and not is_own():
        raise _refusal(existing[0], held, option)


def check_result_file(out: Path, result: Mapping[str, Any], *, picture: bool = False) -> None:
    """Refuse to write a result over one of another measurement, or over anything else.

    Args:
        out: JSON file that ``--out`` names.
        result: protocol and settings of the new result.
        picture: whether a PNG of the same name is written too.

    Raises:
        ValueError: says what the file holds, or that it cannot be written.
    """
    require_writable(out)
    if held := difference(out, result) or _lost(out, picture):
        raise _refusal(out, held)
    if picture and _has_unknown_picture(out):
        raise _refusal(out.with_suffix(".png"), "a picture that does not belong to a result")


def _refusal(path: Path, held: str, option: str = "--out", kind: str = "file") -> ValueError:
    name = option.lstrip("-").replace("-", "_")
    return ValueError(
        f"{name}: {path} holds {held}, expected a free name; name another {kind} with {option}, or "
        "move that file away"
    )


def evaluation_file(out: Path, checkpoint: Path, name: str, result: Mapping[str, Any]) -> Path:
    """The file for the result of ``--evaluate`` of a training command.

    It stands in the directory of ``--out`` or, without that option, next to the checkpoint, where
    `choose_result_file` finds a free name.

    Args:
        out: the directory; an `UnnamedDirectory` if the user named none.
        checkpoint: that is measured.
        name: of the figure.
        result: protocol and settings of the new result.

    Raises:
        ValueError: the directory holds something else under this name, a result of other settings
            too, or cannot be written.
    """
    if isinstance(out, UnnamedDirectory):
        return choose_result_file(checkpoint, name, result)
    path = out / f"{name}.json"
    require_writable(path)
    if held := difference(path, result):
        raise _refusal(path, held, kind="directory")
    return path


def choose_result_file(
    checkpoint: Path, name: str, result: Mapping[str, Any], *, picture: bool = False
) -> Path:
    """The file next to a checkpoint for a result: ``CHECKPOINT.NAME.json``.

    If it holds another measurement, the result gets the next free name: ``CHECKPOINT.NAME-2.json``.

    Args:
        checkpoint: that was measured.
        name: of the evaluator.
        result: protocol and settings of the new result.
        picture: whether a PNG of the same name is written too.

    Raises:
        ValueError: files next to the checkpoint cannot be written.
    """
    first = checkpoint.with_name(f"{checkpoint.name}.{name}.json")
    require_writable(first)
    others = (first.with_stem(f"{first.stem}-{n}") for n in itertools.count(2))
    return next(
        path
        for path in itertools.chain([first], others)
        if not (difference(path, result) or _lost(path, picture))
        and not (picture and _has_unknown_picture(path))
    )


def difference(path: Path, result: Mapping[str, Any]) -> str:
    """What a file holds that a result must not be written over; empty if it may be.

    Settings that only one of two results has are not compared, nor are the digests of the measured
    files.

    Args:
        path: of the file, which may be missing or empty.
        result: protocol and settings of the new result.
    """
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return ""
    earlier = _read_result(path)
    if not earlier:
        return "something else than a result"
    for name in [n for n in result if n in earlier and n not in CHANGING]:
        old, new = (_comparable(name, content.get(name)) for content in (earlier, result))
        if old != new:
            return f"a result of another measurement ({name} {old}, now {new})"
    return ""


def _read_result(path: Path) -> dict[str, Any]:
    """A measurement's result; empty if the file holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(content, dict) and isinstance(content.get("protocol"), str)
    return content if known else {}


def _comparable(name: str, value: object) -> str:
    if name in ("data", "checkpoint", "teacher"):  # a path may be written in several ways
        return os.path.realpath(str(value))
    return json.dumps(value, sort_keys=True, default=str)


def _lost(path: Path, picture: bool) -> str:
    """What a result without a picture would lose of one with a picture; empty if nothing."""
    return "" if picture or not _is_drawn(path) else "a result with pictures of neighbors"


def _has_unknown_picture(result: Path) -> bool:
    """Whether there is a PNG next to a result without a picture."""
    return result.with_suffix(".png").exists() and not _is_drawn(result)


def _is_drawn(path: Path) -> bool:
    """Whether a file holds a result with a picture."""
    result = _read_result(path) if path.exists() else {}
    return "retrieval" in result or bool(result.get("drawn"))
