"""Files of a run as plain values of bounded size: data, whoever wrote them."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

MAX_BYTES = 2**24  # of a file of settings or results
MAX_VALUES, MAX_DEPTH, MAX_CHARACTERS = 10_000, 20, 1_000
MAX_NUMBER = 1e30  # sums and squares of smaller numbers stay finite

# Settings that a report computes with or opens: their types, and the same in words.
SETTING_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "seed": ((int,), "a whole number"),
    "optim.epochs": ((int,), "a whole number from 0"),
    "optim.warmup_epochs": ((int, float), "a number from 0"),
    "loader.size": ((int,), "a whole number"),
    "loader.train_folder": ((str,), "a name"),
    "loader.val_folder": ((str,), "a name"),
    "loader.max_pixels": ((int,), "a whole number"),
    "evaluation.knn_k": ((int,), "a whole number"),
    "evaluation.knn_t": ((int, float), "a number"),
    "evaluation.eval_data": ((str,), "a path"),
    "teacher.teacher": ((str,), "a path"),
}


def is_number(value: object) -> bool:
    """Whether a value is a finite number, small enough for a mean not to overflow."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -MAX_NUMBER < value < MAX_NUMBER


def read_text(path: Path) -> str:
    """Text of a regular file; bytes that are not UTF-8 are replaced.

    Raises:
        ValueError: the file is too large.
        OSError: it cannot be read, or is not a regular file.
    """
    if not path.is_file():
        raise OSError(f"{path} is not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    return path.read_text(encoding="utf-8", errors="replace")


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    try:
        return plain(yaml.safe_load(read_text(path)))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{path}: not YAML ({_first_line(error)}), expected a run's settings"
        ) from error


def parse_json(text: str) -> Any:
    """Plain values of JSON.

    Raises:
        ValueError: the text is not JSON, or holds too many values.
    """
    try:
        return plain(json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def plain(value: Any) -> Any:
    """Dicts, lists, strings and numbers; anything else, and numbers out of range, as strings.

    Raises:
        ValueError: there are more than 10,000 values, or they are nested more than 20 deep.
    """
    return _plain(value, iter(range(MAX_VALUES)), 0)


def _plain(value: Any, budget: Iterator[int], depth: int) -> Any:
    if next(budget, None) is None or depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {_text(k): _plain(v, budget, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, budget, depth + 1) for v in value]
    if value is None or isinstance(value, bool) or is_number(value):
        return value
    return _text(value)


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_rows(path: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Rows of metrics.jsonl, and notes in words on what was left out.

    A row has an ``epoch`` and finite numbers by name.
    """
    lines = path.read_text("utf-8", errors="replace").split("\n") if path.is_file() else []
    rows, bad_lines, bad_values = [], list[int](), Counter[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            bad_lines.append(number)
            continue
        rows.append({name: value for name, value in row.items() if is_number(value)})
        bad_values.update(row.keys() - rows[-1].keys())
    notes = []
    if bad_lines:
        notes.append(
            f"{path}: {len(bad_lines)} lines are not rows of metrics and were left out; the first "
            f"is line {bad_lines[0]}"
        )
    for name, count in sorted(bad_values.items()):
        notes.append(f"{path}: {count} values of {name} are not finite numbers and were left out")
    return rows, notes


def _row(line: str) -> dict[str, Any] | None:
    """A row of metrics; None if the line is not one, or half of one."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    epoch = row.get("epoch") if isinstance(row, dict) else None
    return row if is_number(epoch) and 0 <= cast(float, epoch) < 1e9 else None


def check_settings(path: Path, content: Any, commands: Collection[str]) -> Mapping[str, Any]:
    """The settings of a run, if a report can use them.

    Args:
        path: of their file.
        content: what it holds.
        commands: that write such runs.

    Raises:
        ValueError: names the file, the setting, its value and what was expected.
    """
    command = content.get("command") if isinstance(content, Mapping) else None
    if command not in [*commands] or not isinstance(content.get("optim"), Mapping):
        raise ValueError(
            f"{path}: got no settings of a training run, expected a command that is one of "
            f"{', '.join(commands)}, and a section optim"
        )
    for name, (types, expected) in SETTING_TYPES.items():
        value = setting(content, name)
        good = value is None or (isinstance(value, types) and not isinstance(value, bool))
        if not good or (name.startswith("optim.") and value is not None and value < 0):
            raise ValueError(
                f"{path}: {name}: got {value!r}, expected {expected}; correct it, or leave the "
                "run out"
            )
    return {**content, "data": _places(path, content.get("data"))}


def _places(path: Path, value: Any) -> list[str]:
    """DATA as a list; earlier versions wrote one path, or null for the embedded images."""
    places = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
        raise ValueError(
            f"{path}: data: got {value!r}, expected paths; correct it, or leave the run out"
        )
    return places


def setting(content: Mapping[str, Any], name: str) -> Any:
    """A setting by its dotted name; None if it is not there."""
    value: Any = content
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def to_path(text: object) -> Path | None:
    """The absolute path that a file names; None if it names none, or one that cannot exist."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = Path(text).resolve()
        found.exists()  # raises where the name is too long
    except (OSError, ValueError, RuntimeError):  # so do a null byte and a loop of links
        return None
    return found
