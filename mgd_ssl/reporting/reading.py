"""What a file of a run holds, as plain values of bounded size: it is data, whoever wrote it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

LARGEST = 2**24  # bytes of a file of settings or results
MOST_VALUES, DEEPEST, LONGEST = 10_000, 20, 1_000
BEYOND = 1e30  # no figure is larger: sums and squares of such stay finite

# Settings that a report computes with or opens, and what they may be.
ENTRIES: dict[str, tuple[tuple[type, ...], str]] = {
    "seed": ((int,), "a whole number"),
    "optim.epochs": ((int,), "a whole number from 0"),
    "optim.warmup_epochs": ((int, float), "a number from 0"),
    "loader.size": ((int,), "a whole number"),
    "loader.train_folder": ((str,), "a name"),
    "loader.val_folder": ((str,), "a name"),
    "loader.max_pixels": ((int,), "a whole number"),
    "evaluation.knn_k": ((int,), "a whole number"),
    "evaluation.knn_t": ((int, float), "a number"),
    "data": ((str,), "a path"),
    "evaluation.eval_data": ((str,), "a path"),
    "teacher.teacher": ((str,), "a path"),
}


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and none so large that a mean of some overflows."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -BEYOND < value < BEYOND


def read_text(path: Path) -> str:
    """Text of a regular file; bytes that are not UTF-8 are replaced.

    Raises:
        ValueError: it is too large.
        OSError: it cannot be read, or is no regular file.
    """
    if not path.is_file():
        raise OSError(f"{path} is no regular file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.stat().st_size} bytes, expected {LARGEST} at most")
    return path.read_text(encoding="utf-8", errors="replace")


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file.

    Raises:
        ValueError: names the file, and what is wrong with it.
    """
    try:
        return plain(yaml.safe_load(read_text(path)))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{path}: got no YAML ({_first_line(error)}), expected settings"
        ) from error


def parse_json(text: str) -> Any:
    """Plain values of JSON.

    Raises:
        ValueError: it is none, or too much.
    """
    try:
        return plain(json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def plain(value: Any) -> Any:
    """Dicts, lists, texts and numbers; anything else, and numbers beyond all bounds, as text.

    Raises:
        ValueError: more than 10,000 values, or nested more than 20 deep.
    """
    return _plain(value, iter(range(MOST_VALUES)), 0)


def _plain(value: Any, budget: Iterator[int], depth: int) -> Any:
    if next(budget, None) is None or depth > DEEPEST:
        raise ValueError(f"more than {MOST_VALUES} values, or nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        return {_text(k): _plain(v, budget, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, budget, depth + 1) for v in value]
    if value is None or isinstance(value, bool) or is_number(value):
        return value
    return _text(value)


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_rows(path: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Rows of metrics.jsonl, and in words what of the file is left out, where anything is.

    A row has an ``epoch`` and finite numbers by name.
    """
    lines = path.read_text("utf-8", errors="replace").split("\n") if path.is_file() else []
    rows, broken, odd = [], list[int](), dict[str, int]()
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line)
            if row is None:
                broken.append(number)
                continue
            rows.append({name: value for name, value in row.items() if is_number(value)})
            for name in row.keys() - rows[-1].keys():
                odd[name] = odd.get(name, 0) + 1
    return rows, [*_said_of_lines(path, broken), *_said_of_values(path, odd)]


def _row(line: str) -> dict[str, Any] | None:
    """A row of metrics; None where a line holds none, or half of one."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    epoch = row.get("epoch") if isinstance(row, dict) else None
    return row if is_number(epoch) and 0 <= cast(float, epoch) < 1e9 else None


def _said_of_lines(path: Path, broken: list[int]) -> Iterator[str]:
    if broken:
        yield (
            f"{path}: {len(broken)} lines hold no row of metrics and are left out, the first is "
            f"line {broken[0]}"
        )


def _said_of_values(path: Path, odd: Mapping[str, int]) -> Iterator[str]:
    for name, count in sorted(odd.items()):
        yield f"{path}: {count} values of {name} are no finite numbers and are left out"


def check_entries(path: Path, content: Any) -> Mapping[str, Any]:
    """The settings of a run, those that a report computes with being what they should be.

    Raises:
        ValueError: names the file, the entry, what it is and what was expected.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("optim"), Mapping):
        raise ValueError(
            f"{path}: got settings without an optim section, expected those of pretrain.py, "
            "mgd-ssl classify or mgd-ssl detect"
        )
    for name, (types, expected) in ENTRIES.items():
        value = entry(content, name)
        good = value is None or (isinstance(value, types) and not isinstance(value, bool))
        if not good or (name.startswith("optim.") and value is not None and value < 0):
            raise ValueError(
                f"{path}: {name}: got {value!r}, expected {expected}; correct it, or leave the "
                "run out"
            )
    return content


def entry(content: Mapping[str, Any], name: str) -> Any:
    """A setting by its dotted name; None where there is none."""
    value: Any = content
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def place(text: object) -> Path | None:
    """Where a path that a file names leads; None where it can be no path."""
    try:
        found = Path(str(text)).resolve()
        found.exists()  # raises where the name is too long
    except (OSError, ValueError, RuntimeError):  # so do a null byte and a loop of links
        return None
    return found
